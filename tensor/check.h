// Errors and checks. A failed CHECK is the caller's fault and throws Error with a message that
// names the operation, what was expected and the values found; a failed DCHECK is a bug of ours.
// The library never prints and never exits: the programs in apps/ turn an Error into its exit code.
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

namespace mullion {

// What kind of fault it is; the values are the exit codes of the programs.
enum class Fault {
  other = 1,      // anything not listed below
  usage = 2,      // a flag, a configuration key, a combination of arguments
  bad_file = 3,   // a file from outside that is cut, hostile, or not what it claims to be
  disk = 4,       // no space, no permission, a folder in use
  diverged = 5,   // the loss or the gradients are not finite
  memory = 6,     // out of memory, or a device fault
  peer_lost = 7,  // another process of the run went away
};

class Error : public std::runtime_error {
 public:
  // `hint` is a line that says what to try; it may be empty.
  explicit Error(const std::string& what, Fault fault = Fault::other, std::string hint = "")
      : std::runtime_error(what), fault_(fault), hint_(std::move(hint)) {}
  Fault fault() const { return fault_; }
  const std::string& hint() const { return hint_; }
  // The same error with "context: " put before its message, e.g. the file that was being read.
  Error in(const std::string& context) const {
    return Error(context + ": " + what(), fault_, hint_);
  }

 private:
  Fault fault_;
  std::string hint_;
};

// All arguments written one after another: concat("k ", 3, " of ", 4) == "k 3 of 4".
template <typename... Args>
std::string concat(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

template <typename... Args>
[[noreturn]] void fail(Fault fault, const Args&... args) {
  throw Error(concat(args...), fault);
}

}  // namespace mullion

// CHECK(condition, "matmul: inner sizes differ: ", k1, " and ", k2);
#define CHECK(condition, ...)                                                \
  do {                                                                       \
    if (!(condition)) ::mullion::fail(::mullion::Fault::other, __VA_ARGS__); \
  } while (false)
// The same for a fault of a given kind: CHECK_AS(Fault::bad_file, ok, path, ": cut at byte ", n);
#define CHECK_AS(fault, condition, ...)                    \
  do {                                                     \
    if (!(condition)) ::mullion::fail(fault, __VA_ARGS__); \
  } while (false)
// An invariant of ours: a failure is a bug in Mullion itself.
#define DCHECK(condition)                                                                      \
  do {                                                                                         \
    if (!(condition))                                                                          \
      ::mullion::fail(::mullion::Fault::other, "internal error: " #condition " at ", __FILE__, \
                      ":", __LINE__);                                                          \
  } while (false)
