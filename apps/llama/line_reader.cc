#include "apps/llama/line_reader.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "apps/program/signals.h"
#include "data/text_encoding.h"
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
  const std::string where = concat("standard input: line ", ++number_);
  line = decode_text(std::move(line), TextEncoding::utf8, where);
  return true;
}

LineReader::Got LineReader::read(std::string& line) {
  while (!take(line)) {
    if (at_end_) return Got::end;
    if (stop_requested()) {
      pending_.clear();
      return Got::signal;
    }
    CHECK_AS(Fault::bad_file, pending_.size() <= kMostBytes, "standard input: line ", number_ + 1,
             ": more than ", kMostBytes, " bytes");
    pollfd input{STDIN_FILENO, POLLIN, 0};
    if (::poll(&input, 1, kLookMs) <= 0) continue;
    char block[1 << 16];
    const ssize_t n = ::read(STDIN_FILENO, block, sizeof(block));
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    CHECK_AS(Fault::bad_file, n >= 0, "standard input: ", std::strerror(errno));
    at_end_ = n == 0;
    pending_.append(block, static_cast<size_t>(n));
  }
  return Got::line;
}

}  // namespace mullion
