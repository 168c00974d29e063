// The drivers of either module, a line for each; overloads are told apart by the tensors' types. Comes after drivers.h.
#pragma once

#include "casters.h"

namespace crowdseg {

// `options`: pybind11's, for every driver.
template <class... Options>
void bind_drivers(pybind11::module_& module, const Options&... options) {
  const auto def = [&](const char* name, auto* driver) { module.def(name, driver, options...); };
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
  module.attr("build") = CROWDSEG_BUILD;
}

}  // namespace crowdseg
