// The emulator's <cuda_runtime.h>: the part of CUDA's language and runtime that tensor/cuda uses,
// as plain C++ for the host.
#pragma once
#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

#include "tensor/simt/device_math.h"
#include "tensor/simt/runtime_api.h"
#include "tensor/simt/vector_types.h"
#include "tensor/simt/warp.h"
