// Exclusive label map: every pixel to the nearest of the points whose circles hold it (xmask section 2).

#include "cpu/drivers.h"
#include "cpu/parallel.h"
#include "cpu/tiling.h"

namespace crowdseg {

void exclusion(Points points, Radii radii, Labels labels, Threads threads) {
  const std::int64_t height = labels.size[1], width = labels.size[2];
  const Discs discs(points, radii, height, width, threads.count);
  const TileCircles circles(points, discs, {}, height, width);
  const TileKernels<double> kernels = tile_kernels<double>(0);
  parallel_for(circles.tiles(), threads.count, 4, [&](std::int64_t index, int) {
    const std::int64_t image = circles.image(index);
    const Tile<double> tile = tile_at<double>(circles.row(index), circles.column(index), height, width);
    TileOwners<double> owners(tile);
    for (std::int64_t entry = circles.start[index]; entry < circles.start[index + 1]; ++entry) {
      const std::int64_t i = circles.circle[entry];
      kernels.nearest(tile, discs.patch(i), points.xy(i, 0), points.xy(i, 1),
                      static_cast<std::int32_t>(i - points.offsets(image) + 1), owners.best, owners.label);
    }
    owners.write(labels, image);
  });
}

}  // namespace crowdseg
