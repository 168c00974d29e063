// The exclusive label map (xmask section 2): each pixel looks through the circles that touch its tile.
#include "cuda/tile.h"

namespace crowdseg {

namespace {

struct Claim {
  Circle circle;
  int label;
};

__global__ void label_pixels(Circles circles, Districts districts, Labels labels) {
  CROWDSEG_SHARED(List<Claim>, list);
  for (std::int64_t index = blockIdx.x; index < districts.tiling.count(); index += gridDim.x) {
    const Tile tile(districts.tiling, index);
    const std::int64_t first = circles.points.offsets(tile.image);
    double least = HUGE_VAL;
    int label = 0;
    const auto select = [&](std::int64_t point, Claim& claim) {
      claim = {circles[point], static_cast<int>(point - first) + 1};
      return tile.touched_by(claim.circle);
    };
    for_each_listed(list, districts, tile, select, [&](const Claim& claim) {
      const double distance2 = claim.circle.distance2(tile.x, tile.y);
      if (distance2 <= claim.circle.reach2 && distance2 < least) {  // a tie stays with the smaller index
        least = distance2;
        label = claim.label;
      }
    });
    if (tile.inside) labels(tile.image, tile.y, tile.x) = label;
  }
}

}  // namespace

void exclusion(Points points, Radii radii, Labels labels, Stream stream) {
  use_device(stream);
  const Tiling tiling{labels.size[0], labels.size[1], labels.size[2]};
  const Circles circles{points, radii};
  const Districts districts = find_districts(stream, tiling, points, circles);
  launch(stream, tiling.blocks(), label_pixels, circles, districts, labels);
}

}  // namespace crowdseg
