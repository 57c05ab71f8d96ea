// One object a connection over httplib's stream: deadlines, counts, and who gives way to whom.
#include "apps/llama/server/connection.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "tensor/check.h"

namespace mullion::server {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

thread_local Connection* current = nullptr;

milliseconds left(Clock::time_point deadline) {
  return std::max(milliseconds(0),
                  std::chrono::duration_cast<milliseconds>(deadline - Clock::now()));
}

void address_of(const sockaddr_storage& address, std::string& ip, int& port) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    ::inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text));
    port = ntohs(v4.sin_port);
  } else if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    ::inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text));
    port = ntohs(v6.sin6_port);
  }
  ip = text;
}

}  // namespace

Connection& this_connection() {
  CHECK(current, "server: no connection in this thread");
  return *current;
}

bool Connection::wait(short events, milliseconds patience) const {
  pollfd entry{.fd = socket_, .events = events, .revents = 0};
  int ready;
  do ready = ::poll(&entry, 1, static_cast<int>(patience.count()));
  while (ready < 0 && errno == EINTR);
  return ready > 0;
}

bool Connection::wait_for_request(const std::atomic<size_t>& waiting,
                                  const std::atomic<bool>& closing) {
  const auto begin = Clock::now();
  bool there = begin_ < end_;
  while (!there && !closing) {
    const auto idle = Clock::now() - begin;
    if (idle > limits_.idle || (waiting > 0 && idle > limits_.crowded)) return false;
    there = wait(POLLIN, milliseconds(50));
  }
  deadline_ = Clock::now() + limits_.read;
  char byte;
  return there && (begin_ < end_ || ::recv(socket_, &byte, 1, MSG_PEEK) > 0);
}

bool Connection::client_left() const {
  if (begin_ < end_ || !wait(POLLIN, milliseconds(0))) return false;
  char byte;
  const ssize_t n = ::recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

void Connection::finish() {
  ::shutdown(socket_, SHUT_WR);
  const auto deadline = Clock::now() + std::chrono::seconds(closing_ ? 5 : 0);
  size_t most = size_t{256} << 20;
  while (wait(POLLIN, std::min(left(deadline), milliseconds(500)))) {
    const ssize_t n = ::recv(socket_, buffer_, sizeof(buffer_), 0);
    if (n <= 0 || most < static_cast<size_t>(n) || Clock::now() > deadline) break;
    most -= static_cast<size_t>(n);
  }
}

bool Connection::is_readable() const { return begin_ < end_ || wait(POLLIN, left(deadline_)); }
bool Connection::is_writable() const { return wait(POLLOUT, limits_.write) && !client_left(); }

ssize_t Connection::read(char* to, size_t size) {
  if (begin_ == end_) {
    if (left(deadline_).count() == 0 || !wait(POLLIN, left(deadline_))) return -1;
    const bool direct = size >= sizeof(buffer_);
    ssize_t n;
    do n = ::recv(socket_, direct ? to : buffer_, direct ? size : sizeof(buffer_), 0);
    while (n < 0 && errno == EINTR);
    if (n <= 0 || direct) return n;
    begin_ = 0;
    end_ = static_cast<size_t>(n);
  }
  const size_t n = std::min(size, end_ - begin_);
  std::memcpy(to, buffer_ + begin_, n);
  begin_ += n;
  return static_cast<ssize_t>(n);
}

// All of it: httplib does not look whether a write was short.
ssize_t Connection::write(const char* from, size_t size) {
  for (size_t done = 0; done < size;) {
    if (!wait(POLLOUT, limits_.write)) return -1;
    const ssize_t n = ::send(socket_, from + done, size - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EINTR && errno != EAGAIN) return -1;
    done += n > 0 ? static_cast<size_t>(n) : 0;
  }
  return static_cast<ssize_t>(size);
}

void Connection::get_remote_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (::getpeername(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0)
    address_of(address, ip, port);
}

void Connection::get_local_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0)
    address_of(address, ip, port);
}

void ConnectionThreads::enqueue(std::function<void()> task) {
  const std::lock_guard lock(mutex_);
  tasks_.push_back(std::move(task));
  if (free_ >= tasks_.size() || threads_.size() >= most_)
    came_.notify_one();
  else
    threads_.emplace_back([this] { work(); });
  count_waiting();
}

// Those for which no thread can be started any more.
void ConnectionThreads::count_waiting() {
  waiting_ = threads_.size() >= most_ && tasks_.size() > free_ ? tasks_.size() - free_ : 0;
}

void ConnectionThreads::work() {
  while (true) {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      ++free_;
      came_.wait(lock, [&] { return ending_ || !tasks_.empty(); });
      --free_;
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
      count_waiting();
    }
    task();
  }
}

void ConnectionThreads::shutdown() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    came_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

BoundedServer::BoundedServer(const ConnectionLimits& limits) : limits_(limits) {
  new_task_queue = [this] { return new ConnectionThreads(limits_.threads, waiting_); };
  // SO_REUSEADDR alone: with SO_REUSEPORT, httplib's default, two servers would share a port
  // without a word.
  set_socket_options([](socket_t socket) {
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
}

void BoundedServer::widen_backlog() { ::listen(svr_sock_, SOMAXCONN); }

bool BoundedServer::process_and_close_socket(socket_t socket) {
  Connection connection(socket, limits_);
  current = &connection;
  const int no_delay = 1;
  ::setsockopt(socket, IPPROTO_TCP, 1 /* TCP_NODELAY */, &no_delay, sizeof(no_delay));
  bool closed = false;
  while (!closed && !connection.closing() && connection.wait_for_request(waiting_, closing_))
    if (!process_request(connection, false, closed, {})) break;
  connection.finish();
  current = nullptr;
  ::close(socket);
  return true;
}

}  // namespace mullion::server
