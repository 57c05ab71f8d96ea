// One communicator of NCCL: how it comes to be, how its calls are queued beside the computation,
// and how it ends when a rank is lost.
//
//   computing stream    | backward ... | gradients of a bucket |-> ready   ... |   uses the sum
//   collectives' stream                            ready -> | ncclAllReduce |-> done
//   host                                start          ...            wait: until done has passed
//
// NCCL itself waits without an end for a rank that is gone. So its calls do not block, and the host
// looks, while it waits, at the errors NCCL has met and at the ranks' own connections
// (Communicator::check_peers); what it finds ends the communicator and all that is queued on it.
#pragma once
#include <cuda_runtime.h>
#include <nccl.h>

#include <exception>
#include <functional>
#include <memory>

#include "tensor/collective.h"

namespace mullion::cuda {

// A moment of a stream of the current device.
class Event {
 public:
  explicit Event(cudaStream_t stream);  // now
  ~Event();
  Event(const Event&) = delete;
  bool has_passed() const;
  void holds_back(cudaStream_t stream) const;  // what is queued there from now on

 private:
  cudaEvent_t event_ = nullptr;
};

// The stream of all communicators of one device: their calls run one after another, in the order of
// the program, which is the same on all ranks, so that no two of them wait for each other.
struct CollectiveStream {
  explicit CollectiveStream(int its_device);
  ~CollectiveStream();
  CollectiveStream(const CollectiveStream&) = delete;
  int device;
  cudaStream_t stream = nullptr;
};

class NcclComm {
 public:
  // All ranks of `host` come to it, by an id that its first rank makes up and `host` carries.
  NcclComm(std::shared_ptr<Communicator> host, std::shared_ptr<CollectiveStream> stream);
  ~NcclComm();
  NcclComm(const NcclComm&) = delete;

  // Has `calls` ask for something, behind all that the device has been asked for so far. `op` is
  // for messages.
  using Calls = std::function<void(ncclComm_t, cudaStream_t)>;
  std::unique_ptr<Event> queue(const char* op, const Calls& calls);
  // Returns when that has been done; throws Error(peer_lost) where a rank is lost, and what NCCL
  // says by its call and its words.
  void wait(const char* op, const Event& done);
  // The result of a call of NCCL: throws as wait() does.
  void check(ncclResult_t result, const char* call);

  void abort() noexcept;  // ends what is queued; nothing may be asked afterwards
  int device() const { return stream_->device; }

 private:
  template <typename Done>
  void poll(const char* call, const Done& done);
  void look(const char* call);
  void settle(const char* call);
  [[noreturn]] void fail(ncclResult_t result, const char* call);
  [[noreturn]] void end_with(std::exception_ptr failure);

  std::shared_ptr<Communicator> host_;
  std::shared_ptr<CollectiveStream> stream_;
  ncclComm_t comm_ = nullptr;
  int64_t under_way_ = 0;  // queued and not yet waited for
  std::exception_ptr failure_;
};

}  // namespace mullion::cuda
