// The module crowdseg._cpu: a line per driver; overloads are told apart by the tensors' types.
#include "casters.h"
#include "cpu/drivers.h"

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
  module.def("problem", [] { return ""; });  // a processor always does
  module.attr("build") = CROWDSEG_BUILD;
}
