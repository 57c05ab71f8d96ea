// The host side of CUDA's runtime. All work is done when it is asked for, so that streams and
// events only have to exist; transfers check that each side is what the call says.
#include <chrono>
#include <cstring>

#include "tests/simt/device_memory.h"
#include "tests/simt/fault_plan.h"
#include "tests/simt/host_memory.h"
#include "tests/simt/include/cuda_runtime.h"
#include "tests/simt/simt.h"

struct SimtStream {
  unsigned flags;
};
struct SimtEvent {
  std::chrono::steady_clock::time_point recorded{};
};
struct SimtPool {
  unsigned long long release_threshold = 0;
};

namespace mullion::simt {
namespace {

cudaError_t last_error = cudaSuccess;
DeviceModel model;

// What every call begins with: the error a test has asked for, or none.
cudaError_t begin(const char* call) {
  const cudaError_t planned = planned_fault(call);
  if (planned != cudaSuccess) last_error = planned;
  return planned;
}
cudaError_t fail_with(cudaError_t error) { return last_error = error; }

cudaError_t new_device_block(void** pointer, size_t bytes) {
  *pointer = bytes ? device_allocate(bytes) : nullptr;
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

cudaError_t copy(const char* call, void* target, const void* source, size_t bytes,
                 cudaMemcpyKind kind) {
  if (const cudaError_t error = begin(call)) return error;
  if (bytes == 0) return cudaSuccess;
  const bool any = kind == cudaMemcpyDefault;
  const bool to = any ? is_device_pointer(target)
                      : kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from = any ? is_device_pointer(source)
                        : kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  check_side(call, "target", target, bytes, to);
  check_side(call, "source", source, bytes, from);
  std::memmove(target, source, bytes);
  return cudaSuccess;
}

cudaError_t set(const char* call, void* target, int value, size_t bytes) {
  if (const cudaError_t error = begin(call)) return error;
  check_device_range(call, target, bytes);
  if (bytes) std::memset(target, value, bytes);
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
};

}  // namespace

DeviceModel& device_model() { return model; }
void launch_fault() { begin("launch"); }

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
  *count = model.devices;
  return model.devices ? cudaSuccess : fail_with(cudaErrorNoDevice);
}
cudaError_t cudaGetDevice(int* device) {
  *device = model.current;
  return begin("cudaGetDevice");
}
cudaError_t cudaSetDevice(int device) {
  if (const cudaError_t error = begin("cudaSetDevice")) return error;
  if (device < 0 || device >= model.devices) return fail_with(cudaErrorInvalidDevice);
  model.current = device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  if (const cudaError_t error = begin("cudaGetDeviceProperties")) return error;
  if (device < 0 || device >= model.devices) return fail_with(cudaErrorInvalidDevice);
  *p = {};
  std::strcpy(p->name, "emulated device");
  p->totalGlobalMem = device_capacity();
  p->sharedMemPerBlock = 48 << 10;
  p->sharedMemPerBlockOptin = 227 << 10;
  p->sharedMemPerMultiprocessor = 228 << 10;
  p->major = model.major;
  p->minor = model.minor;
  p->multiProcessorCount = model.multiprocessors;
  p->warpSize = 32;
  p->maxThreadsPerBlock = 1024;
  p->maxThreadsPerMultiProcessor = 2048;
  p->l2CacheSize = 50 << 20;
  p->memoryBusWidth = 5120;
  p->regsPerBlock = 65536;
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
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return begin("cudaDriverGetVersion");
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return begin("cudaRuntimeGetVersion");
}
cudaError_t cudaDeviceSynchronize() { return begin("cudaDeviceSynchronize"); }
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  *total_bytes = device_capacity();
  *free_bytes = device_capacity() - device_bytes_in_use();
  return begin("cudaMemGetInfo");
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  if (const cudaError_t error = begin("cudaStreamCreateWithFlags")) return error;
  *stream = new SimtStream{flags};
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return begin("cudaStreamDestroy");
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return begin("cudaStreamSynchronize"); }
cudaError_t cudaStreamQuery(cudaStream_t) { return begin("cudaStreamQuery"); }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  return begin("cudaStreamWaitEvent");
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  if (const cudaError_t error = begin("cudaEventCreateWithFlags")) return error;
  *event = new SimtEvent;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return begin("cudaEventDestroy");
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  event->recorded = std::chrono::steady_clock::now();
  return begin("cudaEventRecord");
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return begin("cudaEventSynchronize"); }
cudaError_t cudaEventQuery(cudaEvent_t) { return begin("cudaEventQuery"); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  *milliseconds = std::chrono::duration<float, std::milli>(end->recorded - start->recorded).count();
  return begin("cudaEventElapsedTime");
}

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  if (const cudaError_t error = begin("cudaMalloc")) return error;
  return new_device_block(pointer, bytes);
}
cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t) {
  if (const cudaError_t error = begin("cudaMallocAsync")) return error;
  return new_device_block(pointer, bytes);
}
cudaError_t cudaFree(void* pointer) {
  if (const cudaError_t error = begin("cudaFree")) return error;
  device_free(pointer);
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) {
  if (const cudaError_t error = begin("cudaFreeAsync")) return error;
  device_free(pointer);
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
  pinned_free(pointer);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  static SimtPool the_pool;
  *pool = &the_pool;
  if (device < 0 || device >= model.devices) return fail_with(cudaErrorInvalidDevice);
  return begin("cudaDeviceGetDefaultMemPool");
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  if (attribute == cudaMemPoolAttrReleaseThreshold)
    std::memcpy(&pool->release_threshold, value, sizeof pool->release_threshold);
  else
    reset_device_bytes_high();  // the high marks take nothing but a reset to zero
  return begin("cudaMemPoolSetAttribute");
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  unsigned long long result = pool->release_threshold;
  if (attribute == cudaMemPoolAttrUsedMemCurrent || attribute == cudaMemPoolAttrReservedMemCurrent)
    result = device_bytes_in_use();
  if (attribute == cudaMemPoolAttrUsedMemHigh || attribute == cudaMemPoolAttrReservedMemHigh)
    result = device_bytes_high();
  std::memcpy(value, &result, sizeof result);
  return begin("cudaMemPoolGetAttribute");
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return begin("cudaMemPoolTrimTo"); }

cudaError_t cudaMemcpy(void* target, const void* source, size_t bytes, cudaMemcpyKind kind) {
  return copy("cudaMemcpy", target, source, bytes, kind);
}
cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t) {
  return copy("cudaMemcpyAsync", target, source, bytes, kind);
}
cudaError_t cudaMemcpyPeerAsync(void* target, int, const void* source, int, size_t bytes,
                                cudaStream_t) {
  return copy("cudaMemcpyPeerAsync", target, source, bytes, cudaMemcpyDeviceToDevice);
}
cudaError_t cudaMemset(void* target, int value, size_t bytes) {
  return set("cudaMemset", target, value, bytes);
}
cudaError_t cudaMemsetAsync(void* target, int value, size_t bytes, cudaStream_t) {
  return set("cudaMemsetAsync", target, value, bytes);
}
