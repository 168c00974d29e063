// Features at the points, and back (xmask section 3).
#include "cuda/features.h"

namespace crowdseg {

template <class T>
void center_features(Points points, View<const T, 4> embedding, std::int64_t height, std::int64_t width, Taps taps,
                     View<T, 2> out, Stream stream) {
  use_device(stream);
  const Size cells{embedding.size[2], embedding.size[3]};
  read_points(stream, points, point_bands(stream, points, false, {height, width}, cells, taps), embedding, out);
}

template <class T>
void center_features_backward(Points points, View<const T, 2> grad, std::int64_t height, std::int64_t width, Taps taps,
                              View<T, 4> out, Stream stream) {
  use_device(stream);
  const Bands2 bands = point_bands(stream, points, false, {height, width}, {out.size[2], out.size[3]}, taps);
  gather_gradients<T>(stream, points, bands, {grad}, {}, out);
}

template void center_features(Points, View<const float, 4>, std::int64_t, std::int64_t, Taps, View<float, 2>, Stream);
template void center_features(Points, View<const double, 4>, std::int64_t, std::int64_t, Taps, View<double, 2>, Stream);
template void center_features_backward(Points, View<const float, 2>, std::int64_t, std::int64_t, Taps, View<float, 4>,
                                       Stream);
template void center_features_backward(Points, View<const double, 2>, std::int64_t, std::int64_t, Taps, View<double, 4>,
                                       Stream);

}  // namespace crowdseg
