// The module crowdseg._cuda.
#include "cuda/drivers.h"

#include "bindings.h"

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
  bind_drivers(module);
  module.def("problem", &problem);
}
