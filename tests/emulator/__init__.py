"""The CUDA kernels on the CPU: csrc/cuda compiled by g++ over ``cuda_emulator.h``."""
