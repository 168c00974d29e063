// The module crowdseg._cpu: a line per driver; overloads are told apart by the tensors' types.
#include "casters.h"
#include "cpu/drivers.h"
#include "cpu/tile_kernels.h"

namespace py = pybind11;
using namespace crowdseg;

namespace pybind11::detail {

// From torch's number of threads.
template <>
struct type_caster<crowdseg::Threads> {
  PYBIND11_TYPE_CASTER(crowdseg::Threads, const_name("int"));

  bool load(handle count, bool) {
    if (!isinstance<int_>(count)) return false;
    value = {count.cast<int>()};
    return true;
  }
};

}  // namespace pybind11::detail

PYBIND11_MODULE(_cpu, module) {
  const auto def = [&](const char* name, auto* driver) {
    module.def(name, driver, py::call_guard<py::gil_scoped_release>());
  };
  def("radii", &radii);
  def("exclusion", &exclusion);
  def("center_features", &center_features<float>);
  def("center_features", &center_features<double>);
  def("center_features_backward", &center_features_backward<float>);
  def("center_features_backward", &center_features_backward<double>);
  def("pull_push", &pull_push<float>);
  def("pull_push", &pull_push<double>);
  def("energy", &energy<float>);
  def("energy", &energy<double>);
  def("p2r_targets", &p2r_targets<float>);
  def("p2r_targets", &p2r_targets<double>);
  module.def("isa", [] { return instruction_set().name; });
  module.def("problem", [] { return ""; });  // a processor always does
  module.attr("build") = CROWDSEG_BUILD;
}
