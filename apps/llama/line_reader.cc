// poll() and read() in turn with a look at signals; what is too long is passed over to its end.
#include "apps/llama/line_reader.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "apps/program/signals.h"
#include "tensor/check.h"

namespace mullion {

namespace {
constexpr size_t kMostBytes = 64 << 20;
constexpr int kLookMs = 100;  // between two looks at whether a signal came
}  // namespace

// A line of what was read, if there is one.
bool LineReader::take(std::string& line) {
  const size_t end = pending_.find('\n', searched_);
  if (end == pending_.npos && !(at_end_ && !pending_.empty())) {
    searched_ = pending_.size();
    return false;
  }
  line = pending_.substr(0, end);
  pending_.erase(0, end == pending_.npos ? end : end + 1);
  searched_ = 0;
  if (line.ends_with('\r')) line.pop_back();
  ++number_;
  return true;
}

LineReader::Got LineReader::read(std::string& line) {
  while (true) {
    const bool is_there = take(line);
    if ((is_there || at_end_) && std::exchange(skips_, false))
      fail(Fault::bad_file, "standard input: line ", number_ + (is_there ? 0 : 1), ": more than ",
           kMostBytes, " bytes");
    if (is_there) return Got::line;
    if (at_end_) return Got::end;
    if (stop_requested()) {
      pending_.clear();
      return Got::signal;
    }
    if (pending_.size() > kMostBytes || skips_) {
      skips_ = true;
      pending_.clear();
      searched_ = 0;
    }
    pollfd input{STDIN_FILENO, POLLIN, 0};
    if (::poll(&input, 1, kLookMs) <= 0) continue;
    char block[1 << 16];
    const ssize_t n = ::read(STDIN_FILENO, block, sizeof(block));
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    at_end_ = n <= 0;
    CHECK_AS(Fault::bad_file, n >= 0, "standard input: ", std::strerror(errno));
    pending_.append(block, static_cast<size_t>(n));
  }
}

}  // namespace mullion
