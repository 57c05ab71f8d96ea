// The CUDA runtime as the kernels see it: the device and stream they run on, how a call's failure
// becomes an Error, and the memory the backend hands out. One stream a device computes: whatever is
// queued runs in order, so that a block may be freed while a kernel that reads it still waits. What
// the host sends comes by a second stream, beside the computation (transfer.cu).
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "tensor/storage.h"

namespace mullion::cuda {

// Throws Error (Fault::memory, the exit code of device faults) that names call, reason and the
// kernels launched last.
#define CUDA_CHECK(call) ::mullion::cuda::check((call), #call)
void check(cudaError_t status, const char* call);

// Makes a device the calling thread's current one, which kernels() does. Throws Error
// (Fault::usage), "no CUDA device: " and the reason, where there is none of that index or it cannot
// be used.
void make_current(int index);
int current_device();           // the calling thread's; 0 before make_current
cudaStream_t current_stream();  // the stream of that device; while the thread records, its own one
cudaStream_t arrival_stream();  // and the one by which the host's data come

// A device for a scope. What is done for one device in between, such as a tensor's end, leaves the
// thread with the device that it computes on.
class CurrentDevice {
 public:
  explicit CurrentDevice(int index);
  ~CurrentDevice();
  CurrentDevice(const CurrentDevice&) = delete;

 private:
  int before_;  // -1: the thread had none
};

// What the kernels choose their shapes by.
struct DeviceFacts {
  int index = 0, compute_major = 0, compute_minor = 0, multiprocessors = 0;
  size_t shared_per_block = 0;  // the most that a kernel may ask for
  size_t memory = 0;
  std::string name;
};
const DeviceFacts& device_facts();  // of the current device

// For launch(): notes the kernel's name for later errors, and throws where the launch was refused.
// With MULLION_CUDA_SYNC=1 in the environment it waits for the kernel, so that a fault inside it
// is reported under its name.
void launched(const char* kernel);
bool waits_after_launch();

// For launch(): lets a kernel ask for so much dynamic shared memory on the current device. What it
// was allowed before is never taken back: recorded launches and other threads may count on it.
void allow_shared(const void* kernel, size_t bytes);

// Memory for a launch on the current device. It goes back to the stream's pool when the kernels
// that use it have run, whatever is queued by then.
Storage scratch(int64_t bytes);

// The functions of DeviceBackend.
int count();
std::string describe(int index);
void* allocate(int64_t bytes, int index);
void free(void* block, int index);
void upload(void* target, const void* source, int64_t bytes, int index);
void download(void* target, const void* source, int64_t bytes, int index);
void copy_block(void* target, int target_index, const void* source, int source_index,
                int64_t bytes);
void set_bytes(void* target, unsigned char value, int64_t bytes, int index);
void synchronize(int index);
void trim(int index);
void release_transfer_buffers(int index);

// Recorded steps, in graph.cu: those of DeviceBackend, and what the functions above ask.
void begin_recording(int index);
void* end_recording(int index);
void abandon_recording(int index);
void replay(void* graph, int index);
int64_t nodes_of(void* graph);
void destroy_graph(void* graph, int index);
// What this thread queues on its current device goes to `stream` until it is null again. A capture
// takes what anybody queues on its stream; the device's own stays for the other threads.
void redirect_to(cudaStream_t stream);
// Throws Error, "cuda: a step that is recorded " and what it does, while this thread records.
void refuse_in_recording(const char* what);
// While this thread records: notes the block, to be freed at the end, and answers true.
bool free_after_recording(void* block, int index);

}  // namespace mullion::cuda
