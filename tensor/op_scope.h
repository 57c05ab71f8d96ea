// Which op this thread computes, for errors that come up below it: a kernel's name need not say
// whose it was, and memory has no name at all.
#pragma once
#include <string>
#include <string_view>
#include <utility>

namespace mullion {

class OpScope {
 public:
  struct Op {
    const char* name;  // null outside of ops
    bool is_backward;
  };
  // `op` is a literal.
  explicit OpScope(std::string_view op, bool is_backward = false)
      : before_(std::exchange(current_, Op{op.data(), is_backward})) {}
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
  static inline thread_local constinit Op current_ = {nullptr, false};
};

}  // namespace mullion
