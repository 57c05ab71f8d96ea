// How bytes travel between the ranks of a group, below tensor/collective.h: one operation, from
// which tensor/exchange_collective.h makes all collectives, so that sums have the same bits over
// each of them.
//
//   tensor/local_collective.h     threads of one process, for tests
//   tensor/cpu/socket_transport.h sockets, of processes that a launcher without MPI has started
//   tensor/cpu/mpi_collective.h   MPI, of processes that mpirun has started
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace mullion {

struct Outgoing {
  const std::byte* data = nullptr;
  int64_t bytes = 0;
  int64_t peer = 0;
};
struct Incoming {
  std::byte* data = nullptr;
  int64_t bytes = 0;
  int64_t peer = 0;
};

// Used by one thread at a time, but for stop().
class Transport {
 public:
  virtual ~Transport() = default;
  virtual int64_t rank() const = 0;
  virtual int64_t size() const = 0;
  virtual std::string node(int64_t rank) const = 0;  // the host's name

  // Sends and receives all, in any order between different peers and in the listed order to and
  // from one. Sizes are at least 1 and known to both sides. Error(peer_lost) names who was lost, or
  // was not heard of within the deadline; Error(usage) where a message has another size than
  // expected.
  virtual void exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives) = 0;
  // Lets the others know that this rank ends, and why; their exchanges fail with that reason.
  virtual void abandon(const std::string& why) noexcept = 0;

  // Called now and then while nothing is exchanged: tells the others that this rank lives, so that
  // they wait for it while it computes, reads or saves for long.
  virtual void keep_alive() {}

  // For who waits for `peers` by other means than an exchange: hears what has come of them, without
  // waiting. Error(peer_lost) where one has ended or its connection has, or where nothing was heard
  // of it within the deadline.
  virtual void look(std::span<const int64_t> peers) = 0;

  // From any thread: an exchange under way ends soon, with an error.
  void stop() { stopped_ = true; }

 protected:
  bool stopped() const { return stopped_; }
  // "rank 3 of 8 (node n2)"
  std::string name(int64_t rank) const {
    return "rank " + std::to_string(rank) + " of " + std::to_string(size()) + " (node " +
           node(rank) + ")";
  }

 private:
  std::atomic<bool> stopped_{false};
};

}  // namespace mullion
