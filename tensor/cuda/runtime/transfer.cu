// Copies between the host and a device, through pinned buffers: a copy from pageable memory would
// make the host wait until all that is queued before it has run. A buffer is taken again when the
// copy that last used it has passed, which the ring makes rare.
//
// What is large, a batch of images, shall arrive while the batch before is computed. Its place
// belongs to the computing stream, where kernels that are yet to run may still use it; so it comes
// by a stream of its own to a landing place that each pinned buffer has on the device, and the
// computing stream, once it is there, moves it within the device's memory:
//
//   host        | fill pinned |
//   arrivals                  | copy to landing |-> arrived
//   computing   | ... the batch before ... .......... | move to its place |-> passed
#include <algorithm>
#include <cstring>
#include <mutex>
#include <vector>

#include "tensor/cuda/runtime/runtime.h"
#include "tensor/parallel.h"

namespace mullion::cuda {
namespace {

constexpr int64_t kSmall = 64 << 10;     // of token ids and lists of parameters
constexpr int64_t kLargest = 128 << 20;  // a longer copy goes in pieces
constexpr int64_t kGrain = 4 << 20;      // bytes worth a thread of the host

struct Pinned {
  void* bytes = nullptr;
  int64_t capacity = 0;
  void* landing = nullptr;  // on the device, of the same capacity
  cudaEvent_t passed = nullptr, arrived = nullptr;

  void give_back(int device) {
    if (landing) free(landing, device);
    landing = nullptr;
  }
};

// The buffers of one device. Images and targets of two steps fit into the large ones.
struct Ring {
  int device;
  std::vector<Pinned> small = std::vector<Pinned>(32), large = std::vector<Pinned>(4);
  size_t next_small = 0, next_large = 0;

  Pinned& take(int64_t bytes) {
    const bool is_small = bytes <= kSmall;
    std::vector<Pinned>& buffers = is_small ? small : large;
    size_t& next = is_small ? next_small : next_large;
    Pinned& p = buffers[next];
    next = (next + 1) % buffers.size();
    if (!p.passed)
      CUDA_CHECK(cudaEventCreateWithFlags(&p.passed, cudaEventDisableTiming));
    else
      CUDA_CHECK(cudaEventSynchronize(p.passed));
    if (p.capacity < bytes) {
      if (p.bytes) CUDA_CHECK(cudaFreeHost(p.bytes));
      p.give_back(device);
      p.bytes = nullptr;
      p.capacity = 0;
      CUDA_CHECK(cudaMallocHost(&p.bytes, static_cast<size_t>(is_small ? kSmall : bytes)));
      p.capacity = is_small ? kSmall : bytes;
    }
    return p;
  }
};

std::mutex mutex;

Ring& ring(int index) {
  static auto* rings = new std::vector<Ring*>;  // never destroyed, as the devices
  const auto place = static_cast<size_t>(index);
  if (rings->size() <= place) rings->resize(place + 1);
  if (!(*rings)[place]) (*rings)[place] = new Ring{index};
  return *(*rings)[place];
}

void copy_on_host(void* target, const void* source, int64_t bytes) {
  parallel_for(bytes, kGrain, [&](int64_t begin, int64_t end) {
    std::memcpy(static_cast<char*>(target) + begin, static_cast<const char*>(source) + begin,
                static_cast<size_t>(end - begin));
  });
}

// What device `then` is asked for from here on comes after what device `first` has been asked for.
void order(int first, int then) {
  cudaEvent_t event = nullptr;
  {
    const CurrentDevice device(first);
    CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    const cudaError_t status = cudaEventRecord(event, current_stream());
    if (status != cudaSuccess) cudaEventDestroy(event);
    check(status, "cudaEventRecord");
  }
  const CurrentDevice device(then);
  const cudaError_t status = cudaStreamWaitEvent(current_stream(), event, 0);
  cudaEventDestroy(event);  // it goes when it has passed
  check(status, "cudaStreamWaitEvent");
}

// Whether the buffer has a landing place; where there is no memory left, data come as small ones
// do.
bool has_landing(Pinned& p, int64_t bytes, int index) {
  if (bytes <= kSmall) return false;
  if (!p.landing && (p.landing = allocate(p.capacity, index))) {
    if (!p.arrived) CUDA_CHECK(cudaEventCreateWithFlags(&p.arrived, cudaEventDisableTiming));
    // It is the computing stream's memory until that has come here.
    CUDA_CHECK(cudaEventRecord(p.arrived, current_stream()));
    CUDA_CHECK(cudaStreamWaitEvent(arrival_stream(), p.arrived, 0));
  }
  return p.landing;
}

}  // namespace

void release_transfer_buffers(int index) {
  std::lock_guard lock(mutex);
  for (Pinned& p : ring(index).large) p.give_back(index);
}

void upload(void* target, const void* source, int64_t bytes, int index) {
  refuse_in_recording("sends data from the host");
  const CurrentDevice device(index);
  std::lock_guard lock(mutex);
  for (int64_t done = 0; done < bytes;) {
    const int64_t part = std::min(bytes - done, kLargest);
    Pinned& p = ring(index).take(part);
    copy_on_host(p.bytes, static_cast<const char*>(source) + done, part);
    const auto size = static_cast<size_t>(part);
    char* const place = static_cast<char*>(target) + done;
    if (has_landing(p, part, index)) {
      CUDA_CHECK(
          cudaMemcpyAsync(p.landing, p.bytes, size, cudaMemcpyHostToDevice, arrival_stream()));
      CUDA_CHECK(cudaEventRecord(p.arrived, arrival_stream()));
      CUDA_CHECK(cudaStreamWaitEvent(current_stream(), p.arrived, 0));
      CUDA_CHECK(
          cudaMemcpyAsync(place, p.landing, size, cudaMemcpyDeviceToDevice, current_stream()));
    } else {
      CUDA_CHECK(cudaMemcpyAsync(place, p.bytes, size, cudaMemcpyHostToDevice, current_stream()));
    }
    CUDA_CHECK(cudaEventRecord(p.passed, current_stream()));
    done += part;
  }
}

// Two pieces in flight: while one is copied out of its buffer, the next one arrives.
void download(void* target, const void* source, int64_t bytes, int index) {
  refuse_in_recording("reads data back to the host");
  const CurrentDevice device(index);
  std::lock_guard lock(mutex);
  Pinned* waiting = nullptr;
  int64_t waiting_at = 0, waiting_bytes = 0;
  const auto finish = [&] {
    if (!waiting) return;
    CUDA_CHECK(cudaEventSynchronize(waiting->passed));
    copy_on_host(static_cast<char*>(target) + waiting_at, waiting->bytes, waiting_bytes);
  };
  const int64_t piece = bytes <= kSmall ? kSmall : kLargest / 8;
  for (int64_t done = 0; done < bytes;) {
    const int64_t part = std::min(bytes - done, piece);
    Pinned& p = ring(index).take(part);
    CUDA_CHECK(cudaMemcpyAsync(p.bytes, static_cast<const char*>(source) + done,
                               static_cast<size_t>(part), cudaMemcpyDeviceToHost,
                               current_stream()));
    CUDA_CHECK(cudaEventRecord(p.passed, current_stream()));
    finish();
    waiting = &p;
    waiting_at = done;
    waiting_bytes = part;
    done += part;
  }
  finish();
}

// Between devices the target's stream copies. It waits for what makes the source, whose stream
// waits for the copy before it writes or frees what is being read.
void copy_block(void* target, int target_index, const void* source, int source_index,
                int64_t bytes) {
  const auto size = static_cast<size_t>(bytes);
  const CurrentDevice device(target_index);
  if (target_index == source_index) {
    CUDA_CHECK(cudaMemcpyAsync(target, source, size, cudaMemcpyDeviceToDevice, current_stream()));
    return;
  }
  refuse_in_recording("copies from one device to another");
  order(source_index, target_index);
  CUDA_CHECK(
      cudaMemcpyPeerAsync(target, target_index, source, source_index, size, current_stream()));
  order(target_index, source_index);
}

}  // namespace mullion::cuda
