// Messages with a header over each connection, all polled together; signs of life between.
#include "tensor/cpu/socket_transport.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "tensor/check.h"
#include "tensor/cpu/socket_rendezvous.h"

namespace mullion {
namespace {
using Clock = std::chrono::steady_clock;
constexpr uint32_t kData = 0x6d756c01, kEnds = 0x6d756c02, kAlive = 0x6d756c03;  // kinds of frames
constexpr std::chrono::milliseconds kHeartbeat(500);
constexpr uint64_t kLongestReason = 4096;

struct Header {
  uint32_t kind = 0, reserved = 0;
  uint64_t bytes = 0;
};
static_assert(sizeof(Header) == 16);

// The connection to one rank, and what of an exchange has passed.
struct Lane {
  Socket socket;
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  size_t out_at = 0, in_at = 0;       // messages done
  int64_t out_done = 0, in_done = 0;  // bytes of the next one, header included
  Header in_header;
  Clock::time_point heard;
  bool busy() const { return out_at < out.size() || in_at < in.size(); }
};

class SocketTransport : public Transport {
 public:
  SocketTransport(const SocketGroup& group, MetRanks met)
      : group_(group), lanes_(met.sockets.size()), nodes_(std::move(met.nodes)) {
    for (size_t r = 0; r < lanes_.size(); ++r) {
      lanes_[r].socket = std::move(met.sockets[r]);
      lanes_[r].heard = Clock::now();
    }
  }

  int64_t rank() const override { return group_.rank; }
  int64_t size() const override { return group_.size; }
  std::string node(int64_t rank) const override { return nodes_[static_cast<size_t>(rank)]; }

  void exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives) override {
    for (Lane& lane : lanes_) {
      lane.out.clear(), lane.in.clear();
      lane.out_at = lane.in_at = 0;
      lane.out_done = lane.in_done = 0;
      lane.heard = Clock::now();
    }
    for (const Outgoing& m : sends) lanes_[static_cast<size_t>(m.peer)].out.push_back(m);
    for (const Incoming& m : receives) lanes_[static_cast<size_t>(m.peer)].in.push_back(m);
    while (true) {
      std::vector<pollfd> waited;
      std::vector<size_t> whose;
      for (size_t r = 0; r < lanes_.size(); ++r) {
        Lane& lane = lanes_[r];
        if (lane.out_at < lane.out.size()) write(lane, r);
        if (lane.in_at < lane.in.size()) read(lane, r);
        if (!lane.busy()) continue;
        const int events = (lane.in_at < lane.in.size() ? POLLIN : 0) |
                           (lane.out_at < lane.out.size() ? POLLOUT : 0);
        waited.push_back({lane.socket.fd(), static_cast<short>(events), 0});
        whose.push_back(r);
      }
      if (waited.empty()) return;
      CHECK_AS(Fault::peer_lost, !stopped(), "the collective was given up");
      ::poll(waited.data(), waited.size(), 50);
      if (Clock::now() - said_ > kHeartbeat) keep_alive();
      check_deadline(whose);
    }
  }

  void keep_alive() override {
    const Header header = {kAlive, 0, 0};
    for (Lane& lane : lanes_)
      if (lane.socket && lane.out_done == 0) {
        const auto* bytes = reinterpret_cast<const char*>(&header);
        size_t done = 0;
        while (done < sizeof header) {
          const ssize_t n = ::send(lane.socket.fd(), bytes + done, sizeof header - done,
                                   MSG_NOSIGNAL | MSG_DONTWAIT);
          if (n > 0) done += static_cast<size_t>(n);
          // A part of a header must be followed by the rest; who is gone is found when it is
          // needed.
          if (n < 0 && (done == 0 || (errno != EAGAIN && errno != EINTR))) break;
        }
      }
    said_ = Clock::now();
  }

  void look(std::span<const int64_t> peers) override {
    std::vector<size_t> silent;
    for (const int64_t peer : peers)
      if (peer != rank() && !hear(static_cast<size_t>(peer)))
        silent.push_back(static_cast<size_t>(peer));
    check_deadline(silent);
  }

  void abandon(const std::string& why) noexcept override {
    try {
      const std::string text = concat(name(rank()), " ended: ", why).substr(0, kLongestReason);
      const Header header = {kEnds, 0, text.size()};
      std::string frame(reinterpret_cast<const char*>(&header), sizeof header);
      frame += text;
      for (Lane& lane : lanes_) {
        if (!lane.socket || &lane == cause_) continue;
        // Within a message the frame would be taken for its bytes: then the end itself must do.
        if (lane.out_done == 0)
          ::send(lane.socket.fd(), frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        ::shutdown(lane.socket.fd(), SHUT_WR);
      }
      // A connection closed with bytes unread is reset, and the other side loses what it was told.
      const auto end = Clock::now() + std::chrono::milliseconds(300);
      std::vector<char> sink(1 << 16);
      while (Clock::now() < end) {
        for (Lane& lane : lanes_)
          if (lane.socket) (void)!::recv(lane.socket.fd(), sink.data(), sink.size(), MSG_DONTWAIT);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
      if (cause_) follow(cause_->socket);
    } catch (...) {  // nothing more can be done
    }
  }

 private:
  // Returns when the process at the other side is gone, some seconds later at most: who has started
  // both hears of the cause first. A rank that has said that it ends reads no more, but its
  // connection stays while it does: signs can be sent.
  static void follow(const Socket& socket) {
    constexpr std::chrono::seconds kPatience(5);
    constexpr std::chrono::milliseconds kPause(20);
    const Header sign = {kAlive, 0, 0};
    for (const auto end = Clock::now() + kPatience; Clock::now() < end;
         std::this_thread::sleep_for(kPause))
      if (::send(socket.fd(), &sign, sizeof sign, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
          errno != EAGAIN && errno != EINTR)
        break;
    std::this_thread::sleep_for(kPause);  // for who has started it to see
  }

  // Error(peer_lost) where the rank has said why it ends.
  [[noreturn]] void ended(Lane& lane) {
    cause_ = &lane;
    fail(Fault::peer_lost, reason(lane));
  }

  // Takes in the signs that have come between exchanges; false where there were none. A message
  // that waits to be read is one: its sender has gone on to an exchange, and lives as long as its
  // connection.
  bool hear(size_t r) {
    Lane& lane = lanes_[r];
    bool heard = false;
    Header header;
    while (true) {
      const ssize_t n = ::recv(lane.socket.fd(), &header, sizeof header, MSG_PEEK | MSG_DONTWAIT);
      if (n == 0) lost(r, "it closed the connection");
      if (n < 0 && errno != EAGAIN && errno != EINTR) lost(r, std::strerror(errno));
      if (n < static_cast<ssize_t>(sizeof header)) break;
      heard = true;
      if (header.kind == kData) {
        pollfd end = {lane.socket.fd(), POLLRDHUP, 0};
        if (::poll(&end, 1, 0) > 0) lost(r, "it closed the connection");
        break;
      }
      (void)!::recv(lane.socket.fd(), &lane.in_header, sizeof lane.in_header, MSG_DONTWAIT);
      if (header.kind == kEnds) ended(lane);
      CHECK_AS(Fault::peer_lost, header.kind == kAlive, name(static_cast<int64_t>(r)),
               " sent what is no frame");
    }
    if (heard) lane.heard = Clock::now();
    return heard;
  }

  void check_deadline(const std::vector<size_t>& whose) const {
    const auto now = Clock::now();
    std::string silent;
    for (const size_t r : whose) {
      const std::chrono::duration<double> quiet = now - lanes_[r].heard;
      if (quiet.count() > group_.peer_seconds)
        silent += (silent.empty() ? "" : ", ") + name(static_cast<int64_t>(r));
    }
    CHECK_AS(Fault::peer_lost, silent.empty(), silent,
             silent.find(',') == std::string::npos ? " does not answer" : " do not answer",
             ": nothing in ", group_.peer_seconds, " s (--peer-timeout)");
  }

  [[noreturn]] void lost(size_t r, const std::string& how) {
    cause_ = &lanes_[r];
    fail(Fault::peer_lost, name(static_cast<int64_t>(r)), " is gone: ", how);
  }

  void write(Lane& lane, size_t r) {
    while (lane.out_at < lane.out.size()) {
      const Outgoing& m = lane.out[lane.out_at];
      Header header = {kData, 0, static_cast<uint64_t>(m.bytes)};
      constexpr auto kHead = static_cast<int64_t>(sizeof header);
      iovec parts[2];
      int count = 0;
      if (lane.out_done < kHead)
        parts[count++] = {reinterpret_cast<char*>(&header) + lane.out_done,
                          static_cast<size_t>(kHead - lane.out_done)};
      const int64_t passed = std::max<int64_t>(0, lane.out_done - kHead);
      parts[count++] = {const_cast<std::byte*>(m.data) + passed,
                        static_cast<size_t>(m.bytes - passed)};
      msghdr message = {};
      message.msg_iov = parts;
      message.msg_iovlen = static_cast<size_t>(count);
      const ssize_t n = ::sendmsg(lane.socket.fd(), &message, MSG_NOSIGNAL);
      if (n < 0) {
        if (errno == EINTR) continue;
        if (errno == EAGAIN) return;
        const std::string why = std::strerror(errno);
        hear_why(lane);
        lost(r, why);
      }
      lane.heard = Clock::now();
      lane.out_done += n;
      if (lane.out_done == kHead + m.bytes) ++lane.out_at, lane.out_done = 0;
    }
  }

  void read(Lane& lane, size_t r) {
    constexpr auto kHead = static_cast<int64_t>(sizeof(Header));
    while (lane.in_at < lane.in.size()) {
      const Incoming& m = lane.in[lane.in_at];
      const bool head = lane.in_done < kHead;
      char* to = head ? reinterpret_cast<char*>(&lane.in_header) + lane.in_done
                      : reinterpret_cast<char*>(m.data) + (lane.in_done - kHead);
      const int64_t wanted = head ? kHead - lane.in_done : kHead + m.bytes - lane.in_done;
      const ssize_t n = ::recv(lane.socket.fd(), to, static_cast<size_t>(wanted), 0);
      if (n == 0) lost(r, "it closed the connection");
      if (n < 0) {
        if (errno == EINTR) continue;
        if (errno == EAGAIN) return;
        lost(r, std::strerror(errno));
      }
      lane.heard = Clock::now();
      lane.in_done += n;
      if (lane.in_done == kHead && lane.in_header.kind == kAlive) {
        lane.in_done = 0;
        continue;
      }
      if (lane.in_done == kHead) check_header(lane, r, m.bytes);
      if (lane.in_done == kHead + m.bytes) ++lane.in_at, lane.in_done = 0;
    }
  }

  void check_header(Lane& lane, size_t r, int64_t expected) {
    const Header& h = lane.in_header;
    if (h.kind == kEnds) ended(lane);
    CHECK_AS(Fault::peer_lost, h.kind == kData, name(static_cast<int64_t>(r)),
             " sent what is no frame");
    CHECK_AS(Fault::usage, h.bytes == static_cast<uint64_t>(expected),
             name(static_cast<int64_t>(r)), " sent ", h.bytes, " bytes where ", expected,
             " were expected: the ranks' calls differ");
  }

  static std::string reason(const Lane& lane) {
    std::string text(std::min(lane.in_header.bytes, kLongestReason), '\0');
    size_t done = 0;
    const auto end = Clock::now() + std::chrono::seconds(1);
    while (done < text.size() && Clock::now() < end) {
      const ssize_t n = ::recv(lane.socket.fd(), text.data() + done, text.size() - done, 0);
      if (n == 0) break;
      if (n > 0)
        done += static_cast<size_t>(n);
      else
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return text.substr(0, done);
  }

  // Where a rank cannot be written to, it may have said why.
  void hear_why(Lane& lane) {
    if (lane.in_done != 0) return;
    while (::recv(lane.socket.fd(), &lane.in_header, sizeof lane.in_header, 0) ==
           sizeof lane.in_header) {
      if (lane.in_header.kind == kEnds) ended(lane);
      if (lane.in_header.kind != kAlive) return;
    }
  }

  SocketGroup group_;
  std::vector<Lane> lanes_;  // by rank; the own one has no socket
  Lane* cause_ = nullptr;    // of the rank whose end is this one's
  std::vector<std::string> nodes_;
  Clock::time_point said_ = Clock::now();  // that this rank lives
};

}  // namespace

std::unique_ptr<Transport> connect_sockets(const SocketGroup& group) {
  MetRanks met = meet(group);
  if (!group.why_not.empty()) return nullptr;
  return std::make_unique<SocketTransport>(group, std::move(met));
}

}  // namespace mullion
