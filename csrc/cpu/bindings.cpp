// The module crowdseg._cpu.
#include "cpu/drivers.h"

#include "bindings.h"
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
  bind_drivers(module, py::call_guard<py::gil_scoped_release>());
  module.def("isa", [] { return instruction_set().name; });
  module.def("problem", [] { return ""; });  // a processor always does
}
