// What a request asks of the scheduler, and what comes back, piece by piece.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "models/llama/generate.h"

namespace mullion::server {

// One choice of a request: a prompt to continue.
struct Job {
  std::vector<int32_t> prompt;  // at least one id
  int64_t max_tokens = 0;       // 0: the prompt is read and scored alone
  SamplerOptions sampling = {};
  std::vector<std::string> stops = {};  // texts that end the answer and are no part of it
  int64_t top = -1;           // log-probabilities: -1: none; else with so many of the likeliest
  bool score_prompt = false;  // those of the prompt as well
  std::string lead = {};      // what a template has in front of an answer is no part of it
};

struct ScoredToken {
  int32_t id = 0;
  std::optional<double> logprob;                // none for the first of a prompt
  std::vector<std::pair<int32_t, double>> top;  // the likeliest in its place, falling
};

enum class Finish : uint8_t { no, stop, length, failed };

struct Event {
  size_t choice = 0;
  bool of_prompt = false;  // `tokens` are the prompt's
  std::string text = {};   // whole characters; what may yet become a stop text is held back
  std::vector<ScoredToken> tokens = {};
  int64_t generated = 0;  // tokens made in this event, the end token included
  int64_t reused = 0;     // tokens of the prompt that a cache held already
  Finish finish = Finish::no;
  std::string error = {};  // where it failed
  int status = 500;
};

// The mailbox between the thread that decodes and the one that answers a client.
class Exchange {
 public:
  explicit Exchange(size_t choices, std::chrono::steady_clock::time_point deadline)
      : deadline_(deadline), open_(choices) {}

  void post(Event event) {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
    arrived_.notify_one();
  }
  // The next event; nothing where none comes in time.
  std::optional<Event> take(std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    arrived_.wait_for(lock, patience, [&] { return !events_.empty(); });
    if (events_.empty()) return std::nullopt;
    Event event = std::move(events_.front());
    events_.pop_front();
    if (event.finish != Finish::no) --open_;
    return event;
  }
  // Whether choices are still to finish. Of the thread that takes.
  bool open() const { return open_ > 0; }
  // The client has left: nothing more is wanted.
  void cancel() { cancelled_ = true; }
  bool cancelled() const { return cancelled_; }
  std::chrono::steady_clock::time_point deadline() const { return deadline_; }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Event> events_;
  const std::chrono::steady_clock::time_point deadline_;
  size_t open_;
  std::atomic<bool> cancelled_{false};
};

}  // namespace mullion::server
