// A post box of messages behind one lock, and a thread a rank.
#include "tensor/local_collective.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "tensor/check.h"
#include "tensor/exchange_collective.h"

namespace mullion {
namespace {

using Clock = std::chrono::steady_clock;

struct Letter {
  std::vector<std::byte> bytes;
  Clock::time_point arrives;
};

// What has been sent and not yet received.
struct Post {
  explicit Post(Link its) : link(its) {}
  const Link link;
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::pair<int64_t, int64_t>, std::deque<Letter>> messages;  // from, to
  std::map<int64_t, Clock::time_point> free;  // from when a rank can send more
  std::string failure;                        // why a rank has ended
};

class ThreadTransport : public Transport {
 public:
  ThreadTransport(std::shared_ptr<Post> post, int64_t rank, int64_t size, double deadline)
      : post_(std::move(post)), rank_(rank), size_(size), deadline_(deadline) {}
  int64_t rank() const override { return rank_; }
  int64_t size() const override { return size_; }
  std::string node(int64_t) const override { return "local"; }

  void exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives) override {
    std::unique_lock lock(post_->mutex);
    for (const Outgoing& m : sends)
      post_->messages[{rank_, m.peer}].push_back({{m.data, m.data + m.bytes}, arrival(m.bytes)});
    post_->changed.notify_all();
    const auto end = Clock::now() + std::chrono::duration<double>(deadline_);
    for (const Incoming& m : receives) {
      auto& arrived = post_->messages[{m.peer, rank_}];
      while (arrived.empty()) {
        CHECK_AS(Fault::peer_lost, post_->failure.empty(), post_->failure);
        CHECK_AS(Fault::peer_lost, !stopped(), "the collective was given up");
        CHECK_AS(Fault::peer_lost, Clock::now() < end, name(m.peer),
                 " does not answer: nothing in ", deadline_, " s");
        post_->changed.wait_for(lock, std::chrono::milliseconds(50));
      }
      const auto [bytes, arrives] = std::move(arrived.front());
      arrived.pop_front();
      if (arrives > Clock::now()) {
        lock.unlock();
        std::this_thread::sleep_until(arrives);
        lock.lock();
      }
      CHECK_AS(Fault::usage, std::ssize(bytes) == m.bytes, name(m.peer), " sent ", bytes.size(),
               " bytes where ", m.bytes, " were expected: the ranks' calls differ");
      std::memcpy(m.data, bytes.data(), bytes.size());
    }
  }

  void look(std::span<const int64_t>) override {
    const std::lock_guard lock(post_->mutex);
    CHECK_AS(Fault::peer_lost, post_->failure.empty(), post_->failure);
  }

  void abandon(const std::string& why) noexcept override {
    const std::lock_guard lock(post_->mutex);
    if (post_->failure.empty()) post_->failure = name(rank_) + " ended: " + why;
    post_->changed.notify_all();
  }

 private:
  Clock::time_point arrival(int64_t bytes) {
    const auto after = [](double seconds) {
      return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    };
    const Link& link = post_->link;
    Clock::time_point& free = post_->free[rank_];
    free = std::max(free, Clock::now());
    if (link.bytes_a_second > 0) free += after(static_cast<double>(bytes) / link.bytes_a_second);
    return free + after(link.seconds);
  }

  std::shared_ptr<Post> post_;
  int64_t rank_, size_;
  double deadline_;
};

}  // namespace

void run_ranks(int64_t n, const std::function<void(Communicator&)>& body, double deadline,
               Link link) {
  const auto post = std::make_shared<Post>(link);
  std::mutex mutex;
  std::exception_ptr first;
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < n; ++rank)
    threads.emplace_back([&, rank] {
      const auto ranks =
          make_communicator(std::make_unique<ThreadTransport>(post, rank, n, deadline));
      try {
        body(*ranks);
      } catch (const std::exception& error) {
        {
          const std::lock_guard lock(mutex);
          if (!first) first = std::current_exception();
        }
        ranks->abandon(error.what());
      }
    });
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace mullion
