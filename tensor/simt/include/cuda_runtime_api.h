// What of the CUDA runtime's host functions is in the emulator beside <cuda_runtime.h>.
#pragma once
#include "tensor/simt/runtime_api.h"

// "0000:03:00.0", the same in every process that sees the device.
cudaError_t cudaDeviceGetPCIBusId(char* text, int size, int device);
