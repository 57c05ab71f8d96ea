// Lines behind one lock; warnings may be held back until something else has been said.
#include "apps/program/log.h"

#include "apps/program/rank_lines.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>
#include <utility>

namespace mullion {

namespace {
const std::string kWarning = "warning: ";  // log_warning's

struct Log {
  std::mutex mutex;
  int level = 0;
  std::string speaker;  // before each line, while ranks have not met
  std::string rank;     // "" of the first
  bool keeps = false;
  std::vector<std::string> warnings;  // kept for the first rank
  int file = -1;
  size_t status_width = 0;  // columns of the bar that stands on the terminal's last line
};

Log& log() {
  static Log the_log;
  return the_log;
}

// Log lines are the one output whose loss is accepted, so its errors end here.
void put(int fd, const std::string& text) {
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(fd, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    done += static_cast<size_t>(n);
  }
}

std::string erased(size_t width) {
  std::string text;
  if (width > 0) text.append(1, '\r').append(width, ' ').append(1, '\r');
  return text;
}
}  // namespace

void set_log_level(int level) { log().level = level; }

void set_log_speaker(const std::string& name) {
  const std::lock_guard lock(log().mutex);
  log().speaker = name.empty() ? "" : name + ": ";
}

void set_log_rank(const std::string& name) {
  const std::lock_guard lock(log().mutex);
  log().speaker.clear();
  log().rank = name;
  log().keeps = true;
}

bool has_warnings() {
  const std::lock_guard lock(log().mutex);
  return !log().warnings.empty();
}

std::vector<std::string> take_warnings() {
  const std::lock_guard lock(log().mutex);
  return std::exchange(log().warnings, {});
}

void release_warnings() {
  const std::lock_guard lock(log().mutex);
  log().keeps = false;
  for (const std::string& text : std::exchange(log().warnings, {}))
    if (!log().rank.empty()) put(STDERR_FILENO, log().rank + ": " + kWarning + text + "\n");
}

void log_to_file(const std::filesystem::path& file) {
  const std::lock_guard lock(log().mutex);
  if (log().file >= 0) ::close(log().file);
  log().file = -1;
  if (!file.empty()) {
    log().file = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0666);
  }
}

void log_line(LogLevel level, const std::string& text) {
  const std::lock_guard lock(log().mutex);
  if (log().file >= 0) put(log().file, text + "\n");
  if (static_cast<int>(level) > log().level) return;
  const bool is_warning = text.starts_with(kWarning);
  if (is_warning && log().keeps) log().warnings.push_back(text.substr(kWarning.size()));
  if (!log().rank.empty()) {
    if (text.starts_with("error: ") || (is_warning && !log().keeps))
      put(STDERR_FILENO, log().rank + ": " + text + "\n");
    return;
  }
  put(STDERR_FILENO, erased(log().status_width) + log().speaker + text + "\n");
  log().status_width = 0;
}

void log_status(const std::string& text) {
  const std::lock_guard lock(log().mutex);
  if (log().level < 0 || !log().rank.empty()) return;
  put(STDERR_FILENO, erased(log().status_width) + text);
  log().status_width = text.size();
}

}  // namespace mullion
