// Whether the kernels can run on this machine.
#include <string>

#include "cuda/launch.h"

namespace crowdseg {

namespace {

__global__ void nothing() {}

}  // namespace

const char* problem() {
  static std::string sentence;
  int devices = 0;
  cudaError_t error = cudaGetDeviceCount(&devices);
  if (error == cudaSuccess) {
    cudaFuncAttributes attributes;  // of the current device's image of the kernels, if there is one
    error = cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&nothing));
  }
  cudaGetLastError();  // so that no later call reports it
  if (error == cudaSuccess) return "";
  sentence = std::string("built for ") + CROWDSEG_BUILD + ", which cannot run here: " + cudaGetErrorString(error);
  return sentence.c_str();
}

}  // namespace crowdseg
