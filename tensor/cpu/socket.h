// What socket_transport.cc needs of the system: a descriptor that closes itself, addresses, reads
// and writes with a deadline.
#pragma once
#include <chrono>
#include <optional>
#include <string>
#include <utility>

namespace mullion {

using SocketTime = std::chrono::steady_clock::time_point;
SocketTime socket_deadline(double seconds);

class Socket {
 public:
  explicit Socket(int fd = -1) : fd_(fd) {}
  ~Socket();
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  int fd() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

// Addresses are "unix:NAME" (the abstract name space of the host) or "HOST:PORT".
// Error(peer_lost) names the address and why.
Socket listen_at(const std::string& address);
std::string address_of(const Socket& listener, const Socket& towards);  // for those who come
std::optional<Socket> accept_until(const Socket& listener,
                                   SocketTime end);  // none: the time is over
// Tries again until the deadline, for the other side may not listen yet.
Socket connect_until(const std::string& address, SocketTime end);

// A text of at most 64 KiB behind its length. Reading gives nothing where the other side does not
// send one in time.
bool write_text(const Socket& socket, const std::string& text, SocketTime end);
std::optional<std::string> read_text(const Socket& socket, SocketTime end);

}  // namespace mullion
