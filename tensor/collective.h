// What several processes compute together. A Communicator is a group of ranks, one process and one
// device each; every rank of the group makes the same calls in the same order. Tensors are
// contiguous, on the rank's own device, and of the same type on all ranks; what differs in size is
// said at each call.
//
// Sums are taken in an order that depends on the number of ranks alone: same ranks, same bits, on
// all of them. bf16 is summed in f32 and rounded once.
//
// Where it comes from: tensor/exchange_collective.h over MPI, sockets or, for tests, threads of one
// process (tensor/transport.h), and around that what a kind of device has of its own
// (tensor/device_collective.h).
//
// Errors: Error (Fault::peer_lost) that names the rank and its node where one is lost or does not
// come within the deadline; Fault::usage where the ranks' calls do not fit together.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace mullion {

enum class Reduce { sum, max, min };

// One message of exchange(): a contiguous tensor, to or from the rank `peer`.
struct Message {
  Tensor tensor;
  int64_t peer = 0;
};

// Bytes that this rank has handed to others, by kind, since the communicator was made. A collective
// counts what an algorithm that moves the least would send: 2 (n - 1) / n of the bytes for a sum
// over n ranks, (n - 1) / n for a gather or a scatter of the whole.
struct SentBytes {
  int64_t reduced = 0;    // all_reduce
  int64_t scattered = 0;  // reduce_scatter
  int64_t gathered = 0;   // all_gather
  int64_t broadcast = 0;
  int64_t exchanged = 0;  // exchange, all messages of this rank to others
};

// A collective under way. wait() returns when the result may be used, on the host or by what the
// device is asked for next; it must be called, once.
class PendingCollective {
 public:
  virtual ~PendingCollective() = default;
  virtual void wait() = 0;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int64_t rank() const = 0;  // 0 to size() - 1
  virtual int64_t size() const = 0;
  // For messages: "rank 3 of 8 (node n2)".
  virtual std::string name(int64_t rank) const = 0;

  // In place, on all ranks: f32, f64, bf16, i32, i64.
  virtual void all_reduce(Tensor& x, Reduce how = Reduce::sum) = 0;
  // The same, begun: x must be neither read nor written before wait().
  virtual std::unique_ptr<PendingCollective> start_all_reduce(Tensor& x) = 0;
  // part = this rank's equal share of the sum of all `whole`s: whole is [size() * n], part [n].
  virtual void reduce_scatter(const Tensor& whole, Tensor& part) = 0;
  // whole = all parts in the order of the ranks: part is [n], whole [size() * n].
  virtual void all_gather(const Tensor& part, Tensor& whole) = 0;
  virtual std::unique_ptr<PendingCollective> start_all_gather(const Tensor& part,
                                                              Tensor& whole) = 0;
  virtual void broadcast(Tensor& x, int64_t root) = 0;
  // Sends and receives all at once, in any number and of any sizes, without a deadlock. Between two
  // ranks messages match in the order in which they are listed. One to oneself is a copy.
  virtual void exchange(const std::vector<Message>& sends,
                        const std::vector<Message>& receives) = 0;
  virtual std::unique_ptr<PendingCollective> start_exchange(
      const std::vector<Message>& sends, const std::vector<Message>& receives) = 0;
  virtual void barrier() = 0;
  // For who waits for ranks of this group otherwise, such as for a device: Error(peer_lost) where
  // one has ended, or has given no sign of life within the deadline.
  virtual void check_peers() = 0;
  // For the way out of an error: the other ranks' calls, in this group and the one it was split
  // from, fail from now on and give `why` as the reason. Nothing else may be called afterwards.
  virtual void abandon(const std::string& why) noexcept = 0;

  // Ranks that give the same colour become a group of their own, in the order of their ranks here.
  virtual std::unique_ptr<Communicator> split(int64_t colour) = 0;

  virtual SentBytes sent() const = 0;
};

// Texts and plain values of every rank, in the order of the ranks; for what is agreed upon at the
// start and now and then, not for tensors.
std::vector<std::string> gather_texts(Communicator& ranks, const std::string& mine);

}  // namespace mullion
