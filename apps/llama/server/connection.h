// The connections of the server, bounded in number and in time. cpp-httplib waits for each read by
// itself, so that a client that sends a byte now and then holds a thread for ever; here a request
// has to be there whole in time, and those who send nothing give way where all threads are taken.
#pragma once
#include <httplib.h>

#include <chrono>
#include <condition_variable>
#include <list>
#include <mutex>
#include <thread>

namespace mullion::server {

struct ConnectionLimits {
  size_t threads = 512;                    // connections that are served at once
  std::chrono::seconds idle{5};            // between two requests
  std::chrono::milliseconds crowded{200};  // the same where others wait for a thread
  std::chrono::seconds read{30};           // for a whole request
  std::chrono::seconds write{10};          // that a write may stand still
};

class Connection;
// The connection that this thread answers.
Connection& this_connection();

class Connection final : public httplib::Stream {
 public:
  Connection(socket_t socket, const ConnectionLimits& limits) : socket_(socket), limits_(limits) {}
  // Whether a request begins in time; from then on it has limits.read.
  bool wait_for_request(const std::atomic<size_t>& waiting, const std::atomic<bool>& closing);
  // Whether the client has closed its side. A request that follows at once counts as present.
  bool client_left() const;
  // The connection ends after this reply, e.g. because the body of its request has not been read.
  void close_after_reply() { closing_ = true; }
  bool closing() const { return closing_; }
  // Sends what is written, and reads what the client still sends, so that it sees the reply.
  void finish();

  bool is_readable() const override;
  bool is_writable() const override;
  ssize_t read(char* to, size_t size) override;
  ssize_t write(const char* from, size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }

 private:
  bool wait(short events, std::chrono::milliseconds patience) const;
  socket_t socket_;
  const ConnectionLimits& limits_;
  std::chrono::steady_clock::time_point deadline_;  // of reading
  bool closing_ = false;
  size_t begin_ = 0, end_ = 0;  // of what buffer_ holds
  char buffer_[4096];
};

// Starts threads as connections come, up to a number; further connections wait.
class ConnectionThreads final : public httplib::TaskQueue {
 public:
  ConnectionThreads(size_t most, std::atomic<size_t>& waiting) : most_(most), waiting_(waiting) {}
  void enqueue(std::function<void()> task) override;
  void shutdown() override;

 private:
  void work();
  void count_waiting();
  const size_t most_;
  std::atomic<size_t>& waiting_;
  std::mutex mutex_;
  std::condition_variable came_;
  std::list<std::function<void()>> tasks_;
  std::vector<std::thread> threads_;
  size_t free_ = 0;
  bool ending_ = false;
};

// httplib's server over connections of this kind.
class BoundedServer final : public httplib::Server {
 public:
  explicit BoundedServer(const ConnectionLimits& limits);
  // Connections that come together wait to be taken, instead of the 5 of httplib; after bind.
  void widen_backlog();
  // No further requests on open connections.
  void close_idle() { closing_ = true; }

 private:
  bool process_and_close_socket(socket_t socket) override;
  ConnectionLimits limits_;
  std::atomic<size_t> waiting_{0};
  std::atomic<bool> closing_{false};
};

}  // namespace mullion::server
