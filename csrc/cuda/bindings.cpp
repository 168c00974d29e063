// The module crowdseg._cuda: a line per driver; overloads are told apart by the tensors' types.
#include "casters.h"
#include "cuda/drivers.h"

namespace py = pybind11;
using namespace crowdseg;

namespace pybind11::detail {

// From Python's Stream.
template <>
struct type_caster<crowdseg::Stream> {
  PYBIND11_TYPE_CASTER(crowdseg::Stream, const_name("Stream"));

  bool load(handle stream, bool) {
    if (!hasattr(stream, "allocate")) return false;
    const object allocate = stream.attr("allocate");
    value = {reinterpret_cast<void*>(stream.attr("handle").cast<std::uintptr_t>()), stream.attr("index").cast<int>(),
             [allocate](std::size_t size) { return reinterpret_cast<void*>(allocate(size).cast<std::uintptr_t>()); }};
    return true;
  }
};

}  // namespace pybind11::detail

// Drivers allocate through Python and return before the work is done, so they keep the interpreter's lock.
PYBIND11_MODULE(_cuda, module) {
  module.def("radii", &radii);
  module.def("exclusion", &exclusion);
  module.def("center_features", &center_features<float>);
  module.def("center_features", &center_features<double>);
  module.def("center_features_backward", &center_features_backward<float>);
  module.def("center_features_backward", &center_features_backward<double>);
  module.def("pull_push", &pull_push<float>);
  module.def("pull_push", &pull_push<double>);
  module.def("energy", &energy<float>);
  module.def("energy", &energy<double>);
  module.def("p2r_targets", &p2r_targets<float>);
  module.def("p2r_targets", &p2r_targets<double>);
  module.def("problem", &problem);
  module.attr("build") = CROWDSEG_BUILD;
}
