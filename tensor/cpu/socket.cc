// Non-blocking descriptors, and poll() before each read and write.
#include "tensor/cpu/socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

#include "tensor/check.h"

namespace mullion {
namespace {
using Clock = std::chrono::steady_clock;
constexpr uint32_t kLongestText = 64 << 10;

struct Address {
  sockaddr_storage storage = {};
  socklen_t size = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

Address resolve(const std::string& text) {
  Address address;
  if (text.starts_with("unix:")) {
    auto* name = reinterpret_cast<sockaddr_un*>(&address.storage);
    const std::string rest = text.substr(5);
    CHECK_AS(Fault::usage, rest.size() + 1 < sizeof name->sun_path, text, ": too long a name");
    name->sun_family = AF_UNIX;
    std::memcpy(name->sun_path + 1, rest.data(), rest.size());
    address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + rest.size());
    return address;
  }
  const size_t colon = text.rfind(':');
  CHECK_AS(Fault::usage, colon != std::string::npos, text, ": not HOST:PORT");
  addrinfo hints = {}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_family = AF_UNSPEC;
  const int error =
      ::getaddrinfo(text.substr(0, colon).c_str(), text.substr(colon + 1).c_str(), &hints, &found);
  CHECK_AS(Fault::peer_lost, error == 0, text, ": ", ::gai_strerror(error));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> list(found, ::freeaddrinfo);
  std::memcpy(&address.storage, list->ai_addr, list->ai_addrlen);
  address.size = list->ai_addrlen;
  return address;
}

Socket open_for(const Address& address) {
  Socket socket(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CHECK_AS(Fault::peer_lost, socket, "socket: ", std::strerror(errno));
  return socket;
}

void settle(const Socket& socket) {
  const int on = 1;
  ::setsockopt(socket.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // fails on Unix sockets
  ::fcntl(socket.fd(), F_SETFL, O_NONBLOCK);
}

// Whether the socket can be read from (or written to) before the deadline.
bool wait_for(const Socket& socket, short events, SocketTime end) {
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
    if (left.count() < 0) return false;
    pollfd entry = {socket.fd(), events, 0};
    const int n = ::poll(&entry, 1, static_cast<int>(std::min<int64_t>(left.count() + 1, 1000)));
    if (n > 0) return true;
    if (n < 0 && errno != EINTR) return false;
  }
}

template <typename Transfer>
bool transfer_all(const Socket& socket, short events, size_t bytes, SocketTime end,
                  const Transfer& transfer) {
  size_t done = 0;
  while (done < bytes) {
    const ssize_t n = transfer(done);
    if (n > 0)
      done += static_cast<size_t>(n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR) || !wait_for(socket, events, end))
      return false;
  }
  return true;
}

bool read_all(const Socket& socket, char* data, size_t bytes, SocketTime end) {
  return transfer_all(socket, POLLIN, bytes, end, [&](size_t done) {
    return ::recv(socket.fd(), data + done, bytes - done, 0);
  });
}
}  // namespace

SocketTime socket_deadline(double seconds) {
  return Clock::now() +
         std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

Socket::~Socket() {
  if (fd_ >= 0) ::close(fd_);
}

Socket listen_at(const std::string& address) {
  const Address place = resolve(address);
  Socket socket = open_for(place);
  const int on = 1;
  ::setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const bool bound = ::bind(socket.fd(), place.get(), place.size) == 0;
  CHECK_AS(Fault::peer_lost, bound && ::listen(socket.fd(), 1024) == 0, "rank 0 cannot listen at ",
           address, ": ", std::strerror(errno));
  ::fcntl(socket.fd(), F_SETFL, O_NONBLOCK);
  return socket;
}

std::string address_of(const Socket& listener, const Socket& towards) {
  Address mine, near;
  mine.size = near.size = sizeof mine.storage;
  ::getsockname(listener.fd(), reinterpret_cast<sockaddr*>(&mine.storage), &mine.size);
  ::getsockname(towards.fd(), reinterpret_cast<sockaddr*>(&near.storage), &near.size);
  char host[NI_MAXHOST], port[NI_MAXSERV];
  ::getnameinfo(near.get(), near.size, host, sizeof host, nullptr, 0, NI_NUMERICHOST);
  ::getnameinfo(mine.get(), mine.size, nullptr, 0, port, sizeof port, NI_NUMERICSERV);
  return concat(host, ":", port);
}

std::optional<Socket> accept_until(const Socket& listener, SocketTime end) {
  while (wait_for(listener, POLLIN, end)) {
    Socket socket(::accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket) continue;  // it has gone again
    settle(socket);
    return socket;
  }
  return std::nullopt;
}

Socket connect_until(const std::string& address, SocketTime end) {
  while (true) {
    std::string why;
    try {
      const Address place = resolve(address);
      Socket socket = open_for(place);
      settle(socket);
      int error = ::connect(socket.fd(), place.get(), place.size) == 0 ? 0 : errno;
      if (error == EINPROGRESS && wait_for(socket, POLLOUT, std::min(end, socket_deadline(5)))) {
        socklen_t size = sizeof error;
        ::getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
      }
      if (error == 0) return socket;
      why = error == EINPROGRESS ? "no answer" : std::strerror(error);
    } catch (const Error& failure) {  // a name that is not known yet
      if (failure.fault() == Fault::usage) throw;
      why = failure.what();
    }
    CHECK_AS(Fault::peer_lost, Clock::now() < end, address, " cannot be reached: ", why);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

bool write_text(const Socket& socket, const std::string& text, SocketTime end) {
  const auto length = static_cast<uint32_t>(text.size());
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
  bytes += text;
  return transfer_all(socket, POLLOUT, bytes.size(), end, [&](size_t done) {
    return ::send(socket.fd(), bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
  });
}

std::optional<std::string> read_text(const Socket& socket, SocketTime end) {
  uint32_t length = 0;
  if (!read_all(socket, reinterpret_cast<char*>(&length), sizeof length, end)) return std::nullopt;
  if (length > kLongestText) return std::nullopt;
  std::string text(length, '\0');
  if (!read_all(socket, text.data(), length, end)) return std::nullopt;
  return text;
}

}  // namespace mullion
