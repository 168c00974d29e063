// Kernels with and without the faults that the emulator has to find: `faults NAME` runs one and prints what it wrote.
#include <cstdio>

struct Memory {
  int values[256];
};

__global__ void neighbors(bool waits, int* out) {
  CROWDSEG_SHARED(Memory, memory);
  memory.values[threadIdx.x] = threadIdx.x;
  if (waits) __syncthreads();
  out[threadIdx.x] = memory.values[(threadIdx.x + 1) % 256];
}

__global__ void unset(bool, int* out) {
  CROWDSEG_SHARED(Memory, memory);
  out[threadIdx.x] = memory.values[threadIdx.x];
  memory.values[threadIdx.x] = 0;  // for the next block to find, were it not wiped
}

__global__ void absent(bool, int*) {
  if (threadIdx.x != 7) __syncthreads();
}

__global__ void elsewhere(bool, int*) {
  if (threadIdx.x < 128) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void absent_lane(bool, int* out) {
  if (threadIdx.x != 40) out[threadIdx.x] = static_cast<int>(__ballot_sync(0xffffffffu, true));
}

__global__ void warp_operations(bool, int* out) {
  const int lane = threadIdx.x % 32, thread = threadIdx.x;
  const int up = __shfl_up_sync(0xffffffffu, thread, 3), swapped = __shfl_xor_sync(0xffffffffu, thread, 5);
  const bool right = __ballot_sync(0xffffffffu, lane % 2) == 0xaaaaaaaau && __any_sync(0xffffffffu, lane == 9) &&
                     !__any_sync(0xffffffffu, lane == 32) && up == (lane < 3 ? thread : thread - 3) &&
                     swapped == (thread ^ 5) && __shfl_sync(0xffffffffu, 2.5 * thread, 4) == 2.5 * (thread - lane + 4);
  out[threadIdx.x] = right;
}

int main(int, char** arguments) {
  const std::string name = arguments[1];
  const std::map<std::string, void (*)(bool, int*)> kernels = {
      {"barrier", neighbors}, {"no barrier", neighbors}, {"unset", unset}, {"absent", absent}, {"elsewhere", elsewhere},
      {"absent lane", absent_lane}, {"warp operations", warp_operations}};
  int out[256] = {};
  const auto kernel = kernels.at(name);
  try {
    emulator::run(reinterpret_cast<const void*>(kernel), dim3(2), 256, [&] { kernel(name == "barrier", out); });
  } catch (const std::runtime_error& error) {
    std::printf("%s\n", error.what());
    return 1;
  }
  for (int value : out) std::printf("%d ", value);
}
