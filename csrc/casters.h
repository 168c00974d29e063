// From Python to the drivers' types, by duck typing: a tensor is what has data_ptr, shape, stride and dtype.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <type_traits>

#include "math/view.h"

namespace pybind11::detail {

template <class T>
const char* dtype_name() {
  if constexpr (std::is_same_v<T, double>) return "float64";
  if constexpr (std::is_same_v<T, float>) return "float32";
  if constexpr (std::is_same_v<T, std::int64_t>) return "int64";
  if constexpr (std::is_same_v<T, std::int32_t>) return "int32";
  if constexpr (std::is_same_v<T, bool>) return "bool";
}

// torch's object for T: types are compared by identity.
template <class T>
handle dtype_of() {
  static const handle dtype = object(module_::import("torch").attr(dtype_name<T>())).release();
  return dtype;
}

// Refuses tensors of another type or number of dimensions, so that overloads are told apart.
template <class T, int N>
struct type_caster<crowdseg::View<T, N>> {
  using ViewType = crowdseg::View<T, N>;
  PYBIND11_TYPE_CASTER(ViewType, const_name("Tensor"));

  bool load(handle tensor, bool) {
    if (!hasattr(tensor, "data_ptr")) return false;
    if (object(tensor.attr("dtype")).ptr() != dtype_of<std::remove_const_t<T>>().ptr()) return false;
    const tuple shape = tensor.attr("shape"), stride = tensor.attr("stride")();
    if (shape.size() != N) return false;
    for (int i = 0; i < N; ++i) {
      value.size[i] = shape[i].cast<std::int64_t>();
      value.stride[i] = stride[i].cast<std::int64_t>();
    }
    value.data = reinterpret_cast<T*>(tensor.attr("data_ptr")().cast<std::uintptr_t>());
    return true;
  }
};

// From Python's Grouped.
template <>
struct type_caster<crowdseg::Points> {
  PYBIND11_TYPE_CASTER(crowdseg::Points, const_name("Grouped"));

  bool load(handle grouped, bool) {
    if (!hasattr(grouped, "offsets")) return false;
    value = {grouped.attr("points").cast<crowdseg::View<const double, 2>>(),
             grouped.attr("offsets").cast<crowdseg::View<const std::int64_t, 1>>()};
    return true;
  }
};

}  // namespace pybind11::detail
