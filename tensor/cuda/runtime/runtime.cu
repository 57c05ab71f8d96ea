// Devices, streams, memory and faults. The pool of the driver (cudaMallocAsync) serves as
// allocator: with its release threshold raised it keeps what a step freed for the next one.
#include "tensor/cuda/runtime/runtime.h"

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <utility>

#include "tensor/check.h"
#include "tensor/cuda/runtime/capabilities.h"
#include "tensor/op_scope.h"

#ifndef MULLION_CUDA_TARGETS
#define MULLION_CUDA_TARGETS \
  ""  // compiled without CMake: no device is taken, and the error says why
#endif

namespace mullion::cuda {
namespace {

constexpr std::string_view kBuiltFor = MULLION_CUDA_TARGETS;  // what the build was configured for
constexpr int kNamesKept = 4;

// A device that can be used. Made once and never destroyed: tensors may outlive main().
struct DeviceState {
  DeviceFacts facts;
  cudaStream_t stream = nullptr, arrivals = nullptr;
  cudaMemPool_t pool = nullptr;
};

struct Launch {
  std::atomic<const char*> kernel, op;
  std::atomic<bool> is_backward;
};
std::array<Launch, kNamesKept> recent{};
std::atomic<unsigned> kernels_launched{0};

// "softmax_backward (backward of attention), rms_norm": the op where the kernel's name is another.
std::string recent_names() {
  std::string names;
  const unsigned end = kernels_launched.load();
  for (unsigned i = 0; i < kNamesKept && i < end; ++i) {
    const Launch& launch = recent[(end - 1 - i) % kNamesKept];
    const char *kernel = launch.kernel, *op = launch.op;
    if (!kernel) continue;
    names += (names.empty() ? "" : ", ") + std::string(kernel);
    if (op && (launch.is_backward || std::strcmp(kernel, op) != 0))
      names += concat(" (", launch.is_backward ? "backward of " : "", op, ")");
  }
  return names;
}

std::string version_text(int version) { return concat(version / 1000, ".", version % 1000 / 10); }

// Why there is no device at all; empty where there is one.
std::string why_none(int& devices) {
  devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status == cudaSuccess && devices > 0) return "";
  cudaGetLastError();  // it must not be taken for a failure of the next call
  devices = 0;
  int driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  cudaGetLastError();
  if (driver == 0) return "no NVIDIA driver is installed";
  if (status == cudaErrorInsufficientDriver)
    return concat("the driver is for CUDA ", version_text(driver), ", this build needs ",
                  version_text(runtime));
  if (status == cudaSuccess || status == cudaErrorNoDevice) return "the machine shows none";
  return cudaGetErrorString(status);
}

std::string why_unusable(const cudaDeviceProp& p, int index) {
  if (code_for(kBuiltFor, p.major, p.minor) == Code::none)
    return concat("device ", index, ", ", p.name, ", has compute capability ", p.major, ".",
                  p.minor, "; this build has ", code_of(kBuiltFor));
  int pools = 0;
  CUDA_CHECK(cudaDeviceGetAttribute(&pools, cudaDevAttrMemoryPoolsSupported, index));
  return pools ? "" : concat("device ", index, ", ", p.name, ", has no memory pools");
}

__global__ void nothing_kernel() {}

// Asks for a kernel's code on the current device: what the driver has no code for, or no
// translator, is refused here and not at the first launch.
void check_code(const cudaDeviceProp& p, int index) {
  cudaFuncAttributes attributes{};
  const void* const kernel = reinterpret_cast<const void*>(nothing_kernel);
  const cudaError_t status = cudaFuncGetAttributes(&attributes, kernel);
  if (status == cudaSuccess) return;
  cudaGetLastError();
  fail(Fault::usage, "no CUDA device: device ", index, ", ", p.name, " (compute capability ",
       p.major, ".", p.minor, ") does not take this build's kernels: ", cudaGetErrorString(status),
       "; it has ", code_of(kBuiltFor));
}

// Throws with the reason where the device cannot be used.
DeviceState* open_device(int index) {
  int devices = 0;
  const std::string none = why_none(devices);
  CHECK_AS(Fault::usage, none.empty(), "no CUDA device: ", none);
  CHECK_AS(Fault::usage, index >= 0 && index < devices, "no CUDA device: there ",
           devices == 1 ? "is 1" : concat("are ", devices), ", index ", index, " does not exist");
  cudaDeviceProp p{};
  CUDA_CHECK(cudaGetDeviceProperties(&p, index));
  const std::string unusable = why_unusable(p, index);
  CHECK_AS(Fault::usage, unusable.empty(), "no CUDA device: ", unusable);
  CUDA_CHECK(cudaSetDevice(index));
  check_code(p, index);
  auto* state = new DeviceState;
  state->facts = {
      index, p.major, p.minor, p.multiProcessorCount, p.sharedMemPerBlockOptin, p.totalGlobalMem,
      p.name};
  CUDA_CHECK(cudaStreamCreateWithFlags(&state->stream, cudaStreamNonBlocking));
  CUDA_CHECK(cudaStreamCreateWithFlags(&state->arrivals, cudaStreamNonBlocking));
  CUDA_CHECK(cudaDeviceGetDefaultMemPool(&state->pool, index));
  uint64_t keep = UINT64_MAX;
  CUDA_CHECK(cudaMemPoolSetAttribute(state->pool, cudaMemPoolAttrReleaseThreshold, &keep));
  return state;
}

DeviceState& state_of(int index) {
  static std::mutex mutex;
  static auto* states = new std::deque<DeviceState*>;
  std::lock_guard lock(mutex);
  const auto place = static_cast<size_t>(index < 0 ? 0 : index);
  if (index >= 0 && place < states->size() && (*states)[place]) return *(*states)[place];
  DeviceState* opened = open_device(index);
  if (states->size() <= place) states->resize(place + 1);
  (*states)[place] = opened;
  return *opened;
}

thread_local DeviceState* current = nullptr;
thread_local DeviceState* redirected = nullptr;  // whose stream is replaced for this thread
thread_local cudaStream_t replacement = nullptr;

DeviceState& here() {
  if (!current) make_current(0);
  return *current;
}

}  // namespace

void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  const std::string names = recent_names();
  throw Error(concat(OpScope::prefix(), "cuda: ", cudaGetErrorString(status), " (",
                     cudaGetErrorName(status), ") at ", call,
                     names.empty() ? "" : "; launched last: ", names),
              Fault::memory,
              waits_after_launch() ? "" : "MULLION_CUDA_SYNC=1 names the kernel that failed");
}

bool waits_after_launch() {
  static const bool waits = [] {
    const char* value = std::getenv("MULLION_CUDA_SYNC");
    return value && std::strcmp(value, "0") != 0;
  }();
  return waits;
}

#ifndef MULLION_SIMT  // the emulator has no such limit of a kernel
void allow_shared(const void* kernel, size_t bytes) {
  static std::mutex mutex;
  static auto* const allowed = new std::map<std::pair<int, const void*>, size_t>;
  const std::lock_guard lock(mutex);
  size_t& most = (*allowed)[{current_device(), kernel}];
  if (bytes <= most) return;
  // A refusal is left to the launch, whose error names the kernel.
  if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(bytes)) == cudaSuccess)
    most = bytes;
}
#endif

void launched(const char* kernel) {
  Launch& launch = recent[kernels_launched.fetch_add(1) % kNamesKept];
  const OpScope::Op op = OpScope::current();
  launch.kernel = kernel;
  launch.op = op.name;
  launch.is_backward = op.is_backward;
  cudaError_t status = cudaGetLastError();
  const char* what = "launched";
  if (status == cudaSuccess && waits_after_launch()) {
    status = cudaStreamSynchronize(current_stream());
    what = "run";
  }
  if (status == cudaSuccess) return;
  cudaGetLastError();
  throw Error(concat(OpScope::prefix(), "cuda: kernel ", kernel, " could not be ", what, ": ",
                     cudaGetErrorString(status), " (", cudaGetErrorName(status), ")"),
              Fault::memory);
}

void make_current(int index) {
  if (current && current->facts.index == index) return;
  int before = current ? current->facts.index : 0;
  if (!current && cudaGetDevice(&before) != cudaSuccess) cudaGetLastError();
  try {
    DeviceState& state = state_of(index);
    CUDA_CHECK(cudaSetDevice(index));
    current = &state;
  } catch (...) {  // one that could not be opened is nobody's current device
    if (cudaSetDevice(before) != cudaSuccess) cudaGetLastError();
    throw;
  }
}

CurrentDevice::CurrentDevice(int index) : before_(current ? current->facts.index : -1) {
  make_current(index);
}
CurrentDevice::~CurrentDevice() {
  if (before_ < 0 || before_ == current->facts.index) return;
  current = &state_of(before_);  // open: it was current
  if (cudaSetDevice(before_) != cudaSuccess) cudaGetLastError();
}

int current_device() { return current ? current->facts.index : 0; }
cudaStream_t current_stream() {
  DeviceState& state = here();
  return redirected == &state ? replacement : state.stream;
}
void redirect_to(cudaStream_t stream) {
  redirected = stream ? &here() : nullptr;
  replacement = stream;
}
cudaStream_t arrival_stream() { return here().arrivals; }
const DeviceFacts& device_facts() { return here().facts; }
Storage scratch(int64_t bytes) {
  try {
    return Storage(bytes, {DeviceType::cuda, current_device()});
  } catch (const Error& error) {
    if (error.fault() != Fault::memory) throw;
    throw error.in(OpScope::prefix() + "working memory");
  }
}

int count() {
  int devices = 0, usable = 0;
  if (!why_none(devices).empty()) return 0;
  for (int i = 0; i < devices; ++i) {
    cudaDeviceProp p{};
    if (cudaGetDeviceProperties(&p, i) == cudaSuccess && why_unusable(p, i).empty()) ++usable;
  }
  cudaGetLastError();
  return usable;
}

std::string describe(int index) {
  const CurrentDevice device(index);
  const DeviceFacts& f = device_facts();
  int driver = 0, runtime = 0;
  CUDA_CHECK(cudaDriverGetVersion(&driver));
  CUDA_CHECK(cudaRuntimeGetVersion(&runtime));
  return concat("cuda:", index, " ", f.name, ", sm_", f.compute_major, f.compute_minor, ", ",
                static_cast<double>(f.memory >> 20) / 1024, " GiB, driver ", version_text(driver),
                ", runtime ", version_text(runtime),
                code_for(kBuiltFor, f.compute_major, f.compute_minor) == Code::ptx
                    ? ", kernels translated from PTX"
                    : "");
}

void* allocate(int64_t bytes, int index) {
  refuse_in_recording("allocates memory of its own");
  const CurrentDevice device(index);
  void* block = nullptr;
  const cudaError_t status = cudaMallocAsync(&block, static_cast<size_t>(bytes), here().stream);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(status, "cudaMallocAsync");
  return block;
}

// Called by destructors: what cannot be freed (the process is ending, a kernel has failed) is left.
void free(void* block, int index) {
  if (free_after_recording(block, index)) return;
  try {
    const CurrentDevice device(index);
    if (cudaFreeAsync(block, here().stream) != cudaSuccess) cudaGetLastError();
  } catch (const Error&) {
  }
}

void set_bytes(void* target, unsigned char value, int64_t bytes, int index) {
  if (bytes == 0) return;
  const CurrentDevice device(index);
  CUDA_CHECK(cudaMemsetAsync(target, value, static_cast<size_t>(bytes), current_stream()));
}

void synchronize(int index) {
  refuse_in_recording("waits for the device");
  const CurrentDevice device(index);
  CUDA_CHECK(cudaStreamSynchronize(here().stream));
}

void trim(int index) {
  refuse_in_recording("gives memory back");
  const CurrentDevice device(index);
  release_transfer_buffers(index);
  CUDA_CHECK(cudaMemPoolTrimTo(here().pool, 0));
}

}  // namespace mullion::cuda
