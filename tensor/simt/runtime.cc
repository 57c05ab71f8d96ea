// The host side of CUDA's runtime but for streams and events: devices, memory, transfers, errors. A
// transfer checks that each side is what the call says.
#include <cstdio>
#include <cstring>
#include <map>
#include <vector>

#include "tensor/simt/device_memory.h"
#include "tensor/simt/device_model.h"
#include "tensor/simt/engine.h"
#include "tensor/simt/fault_plan.h"
#include "tensor/simt/graphs.h"
#include "tensor/simt/host_memory.h"
#include "tensor/simt/include/cuda_runtime_api.h"
#include "tensor/simt/simt.h"
#include "tensor/simt/streams.h"

struct SimtPool {
  int device = 0;
  unsigned long long release_threshold = 0;
};

namespace mullion::simt {
namespace {

constexpr int kRuntime = 13000;  // the CUDA that is emulated
thread_local cudaError_t last_error = cudaSuccess;

// What every call begins with: why it is not done, or success.
cudaError_t begin(const char* call, const cudaStream_t* stream = nullptr) {
  const cudaError_t error = refusal(call, stream);
  if (error != cudaSuccess) last_error = error;
  return error;
}
cudaError_t fail_with(cudaError_t error) { return last_error = error; }

cudaError_t new_device_block(void** pointer, size_t bytes, int device) {
  *pointer = bytes ? device_allocate(bytes, device) : nullptr;
  if (bytes && !*pointer) {  // what is queued to be freed is as good as free
    finish_all_streams();
    *pointer = device_allocate(bytes, device);
  }
  return bytes && !*pointer ? fail_with(cudaErrorMemoryAllocation) : cudaSuccess;
}

void check_side(const char* call, const char* side, const void* pointer, size_t bytes,
                bool on_device) {
  if (on_device)
    check_device_range(concat(call, ": ", side), pointer, bytes);
  else if (is_device_pointer(pointer))
    report(concat(call, ": the ", side, " is said to be host memory and is ",
                  describe_device_address(pointer)));
}

void check_sides(const char* call, const void* target, const void* source, size_t bytes,
                 cudaMemcpyKind kind) {
  const bool any = kind == cudaMemcpyDefault;
  const bool to = any ? is_device_pointer(target)
                      : kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from = any ? is_device_pointer(source)
                        : kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  check_side(call, "target", target, bytes, to);
  check_side(call, "source", source, bytes, from);
}

bool is_pageable(const void* pointer) { return !is_device_pointer(pointer) && !is_pinned(pointer); }

// What is in pageable memory is copied before the call returns; pinned memory is read and written
// when the stream comes to it.
cudaError_t copy_in_stream(const char* call, void* target, const void* source, size_t bytes,
                           cudaMemcpyKind kind, cudaStream_t stream) {
  if (const cudaError_t error = begin(call, &stream)) return error;
  if (bytes == 0) return cudaSuccess;
  check_sides(call, target, source, bytes, kind);
  if (is_capturing(stream) && (is_pageable(target) || is_pageable(source)))
    return fail_with(break_capture(stream));
  const auto check = [=] {
    check_sides(call, target, source, bytes, kind);
    if (kind == cudaMemcpyHostToDevice) count_run("copy from the host");
  };
  const Uses uses = {{target, true, true}, {source, false, true}};
  if (is_pageable(source)) {
    const auto* first = static_cast<const unsigned char*>(source);
    enqueue(stream, call, uses, [=, staged = std::vector<unsigned char>(first, first + bytes)] {
      check();
      std::memcpy(target, staged.data(), bytes);
    });
  } else {
    enqueue(stream, call, uses, [=] {
      check();
      std::memmove(target, source, bytes);
    });
  }
  if (is_pageable(target)) finish(stream);
  return cudaSuccess;
}

cudaError_t set_in_stream(const char* call, void* target, int value, size_t bytes,
                          cudaStream_t stream) {
  if (const cudaError_t error = begin(call, &stream)) return error;
  if (bytes == 0) return cudaSuccess;
  check_device_range(call, target, bytes);
  enqueue(stream, call, {{target, true}}, [=] {
    check_device_range(call, target, bytes);
    std::memset(target, value, bytes);
  });
  return cudaSuccess;
}

struct NamedError {
  cudaError_t error;
  const char *name, *text;
};
constexpr NamedError kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources",
     "too many resources requested for launch"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorStreamCaptureWrongThread, "cudaErrorStreamCaptureWrongThread",
     "attempt to terminate a thread-local capture sequence from another thread"},
};

}  // namespace

bool launch_fails(cudaStream_t stream) {
  if (begin("launch", &stream) != cudaSuccess) return true;
  return device_of(stream) != current_device() &&
         fail_with(cudaErrorInvalidResourceHandle) != cudaSuccess;
}

}  // namespace mullion::simt

using namespace mullion::simt;

const char* cudaGetErrorString(cudaError_t error) {
  for (const NamedError& known : kErrors)
    if (known.error == error) return known.text;
  return "unknown error";
}
const char* cudaGetErrorName(cudaError_t error) {
  for (const NamedError& known : kErrors)
    if (known.error == error) return known.name;
  return "cudaErrorUnknown";
}
cudaError_t cudaPeekAtLastError() { return last_error; }
cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaGetDeviceCount(int* count) {
  if (const cudaError_t error = begin("cudaGetDeviceCount")) return error;
  *count = device_model().devices;
  if (device_model().driver && device_model().driver < kRuntime)
    return fail_with(cudaErrorInsufficientDriver);
  return device_model().devices ? cudaSuccess : fail_with(cudaErrorNoDevice);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  if (const cudaError_t error = begin("cudaGetDeviceProperties")) return error;
  if (device < 0 || device >= device_model().devices) return fail_with(cudaErrorInvalidDevice);
  *p = {};
  std::strcpy(p->name, "emulated device");
  p->totalGlobalMem = device_capacity();
  const Limits limits = limits_of(device);
  p->sharedMemPerBlock = Limits::kStaticShared;
  p->sharedMemPerBlockOptin = limits.shared_per_block;
  p->sharedMemPerMultiprocessor = limits.shared_per_multiprocessor;
  p->major = capability_of(device).major;
  p->minor = capability_of(device).minor;
  p->multiProcessorCount = device_model().multiprocessors;
  p->warpSize = 32;
  p->maxThreadsPerBlock = Limits::kThreadsPerBlock;
  p->maxThreadsPerMultiProcessor = limits.threads_per_multiprocessor;
  p->l2CacheSize = 50 << 20;
  p->memoryBusWidth = 5120;
  p->regsPerBlock = Limits::kRegistersPerBlock;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* text, int size, int device) {
  if (const cudaError_t error = begin("cudaDeviceGetPCIBusId")) return error;
  if (device < 0 || device >= device_model().devices) return fail_with(cudaErrorInvalidDevice);
  std::snprintf(text, static_cast<size_t>(size), "0000:%02x:00.0", device_model().first + device);
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (const cudaError_t error = begin("cudaDeviceGetAttribute")) return error;
  cudaDeviceProp p;
  if (const cudaError_t error = cudaGetDeviceProperties(&p, device)) return error;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = p.multiProcessorCount;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = p.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = p.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(p.sharedMemPerBlockOptin);
      break;
    case cudaDevAttrMemoryPoolsSupported:
      *value = 1;
      break;
  }
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {1024};
  return begin("cudaFuncGetAttributes");
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = device_model().driver;
  return begin("cudaDriverGetVersion");
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kRuntime;
  return begin("cudaRuntimeGetVersion");
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  *total_bytes = device_capacity();
  *free_bytes = device_capacity() - device_bytes_in_use(current_device());
  return begin("cudaMemGetInfo");
}

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  if (const cudaError_t error = begin("cudaMalloc")) return error;
  return new_device_block(pointer, bytes, current_device());
}
cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t stream) {
  if (const cudaError_t error = begin("cudaMallocAsync", &stream)) return error;
  const cudaError_t error = new_device_block(pointer, bytes, device_of(stream));
  if (*pointer) note_allocation(*pointer, moment_of(stream, "cudaMallocAsync"));
  return error;
}
cudaError_t cudaFree(void* pointer) {
  if (const cudaError_t error = begin("cudaFree")) return error;
  finish_all_streams();
  device_free(pointer);
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  if (const cudaError_t error = begin("cudaFreeAsync", &stream)) return error;
  enqueue_free(stream, pointer);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  if (const cudaError_t error = begin("cudaMallocHost")) return error;
  *pointer = pinned_allocate(bytes);
  return *pointer ? cudaSuccess : fail_with(cudaErrorMemoryAllocation);
}
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  return cudaMallocHost(pointer, bytes);
}
cudaError_t cudaFreeHost(void* pointer) {
  if (const cudaError_t error = begin("cudaFreeHost")) return error;
  finish_all_streams();
  pinned_free(pointer);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  static std::map<int, SimtPool> pools;
  *pool = &pools[device];
  (*pool)->device = device;
  if (device < 0 || device >= device_model().devices) return fail_with(cudaErrorInvalidDevice);
  return begin("cudaDeviceGetDefaultMemPool");
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  if (attribute == cudaMemPoolAttrReleaseThreshold)
    std::memcpy(&pool->release_threshold, value, sizeof pool->release_threshold);
  else
    reset_device_bytes_high(pool->device);  // the high marks take nothing but a reset to zero
  return begin("cudaMemPoolSetAttribute");
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  unsigned long long result = pool->release_threshold;
  if (attribute == cudaMemPoolAttrUsedMemCurrent || attribute == cudaMemPoolAttrReservedMemCurrent)
    result = device_bytes_in_use(pool->device);
  if (attribute == cudaMemPoolAttrUsedMemHigh || attribute == cudaMemPoolAttrReservedMemHigh)
    result = device_bytes_high(pool->device);
  std::memcpy(value, &result, sizeof result);
  return begin("cudaMemPoolGetAttribute");
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return begin("cudaMemPoolTrimTo"); }

cudaError_t cudaMemcpy(void* target, const void* source, size_t bytes, cudaMemcpyKind kind) {
  finish_blocking_streams();
  const cudaError_t error = copy_in_stream("cudaMemcpy", target, source, bytes, kind, nullptr);
  finish(nullptr);
  return error;
}
cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return copy_in_stream("cudaMemcpyAsync", target, source, bytes, kind, stream);
}
cudaError_t cudaMemcpyPeerAsync(void* target, int target_device, const void* source,
                                int source_device, size_t bytes, cudaStream_t stream) {
  const auto check_owner = [](const char* side, const void* pointer, int device) {
    if (const int owner = owner_of(pointer); owner >= 0 && owner != device)
      report(mullion::concat("cudaMemcpyPeerAsync: the ", side, " is said to be of device ", device,
                             " and is of device ", owner));
  };
  check_owner("target", target, target_device);
  check_owner("source", source, source_device);
  return copy_in_stream("cudaMemcpyPeerAsync", target, source, bytes, cudaMemcpyDeviceToDevice,
                        stream);
}
cudaError_t cudaMemset(void* target, int value, size_t bytes) {
  finish_blocking_streams();
  const cudaError_t error = set_in_stream("cudaMemset", target, value, bytes, nullptr);
  finish(nullptr);
  return error;
}
cudaError_t cudaMemsetAsync(void* target, int value, size_t bytes, cudaStream_t stream) {
  return set_in_stream("cudaMemsetAsync", target, value, bytes, stream);
}
