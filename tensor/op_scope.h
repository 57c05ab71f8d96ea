// Which op this thread computes, for errors that come up below it: a kernel's name need not say
// whose it was, and memory has no name at all. And when an op was recorded, which says what its
// backward may read (tensor.h, Elements).
#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace mullion {

// Counts the ops that are recorded: each gets the next number, and a storage keeps the numbers at
// which it was made and last written.
class OpClock {
 public:
  static uint64_t now() { return next_.load(std::memory_order_relaxed); }
  static uint64_t tick() { return next_.fetch_add(1, std::memory_order_relaxed); }

 private:
  static inline std::atomic<uint64_t> next_{1};
};

class OpScope {
 public:
  struct Op {
    const char* name;  // null outside of ops
    bool is_backward;
    uint64_t recorded;  // the number of the innermost op whose backward runs; 0 outside of one
  };
  // `op` is a literal.
  explicit OpScope(std::string_view op, bool is_backward = false,
                   uint64_t recorded = current_.recorded)
      : before_(std::exchange(current_, Op{op.data(), is_backward, recorded})) {}
  ~OpScope() { current_ = before_; }
  OpScope(const OpScope&) = delete;
  OpScope& operator=(const OpScope&) = delete;

  static Op current() { return current_; }
  // What an error's message begins with: "softmax: ". Empty in a backward, whose name every error
  // gets (autograd/engine.cc).
  static std::string prefix() {
    return current_.name && !current_.is_backward ? std::string(current_.name) + ": " : "";
  }

 private:
  Op before_;
  static inline thread_local constinit Op current_ = {nullptr, false, 0};
};

}  // namespace mullion
