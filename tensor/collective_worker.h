// The thread in which a communicator's messages travel: it runs tasks in the order in which they
// were given. After one has failed the others fail likewise. While it has nothing to do it tells
// the other ranks now and then that this one lives.
#pragma once
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "tensor/transport.h"

namespace mullion {

class CollectiveWorker {
 public:
  explicit CollectiveWorker(std::unique_ptr<Transport> transport)
      : transport_(std::move(transport)) {}
  ~CollectiveWorker() { end(); }
  CollectiveWorker(const CollectiveWorker&) = delete;
  CollectiveWorker& operator=(const CollectiveWorker&) = delete;

  Transport& transport() { return *transport_; }

  int64_t add(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
    tasks_.push_back(std::move(task));
    changed_.notify_all();
    return ++added_;
  }
  void wait(int64_t task) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_ >= task || failure_; });
    if (done_ < task) std::rethrow_exception(failure_);
  }
  void abandon(const std::string& why) noexcept {
    end();
    transport_->abandon(why);
  }

 private:
  static constexpr std::chrono::milliseconds kHeartbeat{500};

  void end() noexcept {
    transport_->stop();
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
  }
  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      const auto ready = [&] { return ending_ || (!tasks_.empty() && !failure_); };
      while (!changed_.wait_for(lock, kHeartbeat, ready)) {
        if (failure_) continue;
        lock.unlock();
        const std::exception_ptr failure = failure_of([this] { transport_->keep_alive(); });
        lock.lock();
        if (failure) fail_all(failure);
      }
      if (ending_) return;
      const auto task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      const std::exception_ptr failure = failure_of(task);
      lock.lock();
      if (failure) {
        fail_all(failure);
      } else {
        ++done_;
        changed_.notify_all();
      }
    }
  }
  static std::exception_ptr failure_of(const std::function<void()>& task) {
    try {
      task();
    } catch (...) {
      return std::current_exception();
    }
    return nullptr;
  }
  void fail_all(const std::exception_ptr& failure) {
    failure_ = failure;
    changed_.notify_all();
  }

  std::unique_ptr<Transport> transport_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  int64_t added_ = 0, done_ = 0;
  bool ending_ = false;
  std::exception_ptr failure_;
  std::thread thread_;
};

}  // namespace mullion
