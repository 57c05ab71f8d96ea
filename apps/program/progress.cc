// Bar, share, rate and time left, made anew for each line that shows.
#include "apps/program/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "apps/program/log.h"

namespace mullion {

namespace {
using Clock = std::chrono::steady_clock;
constexpr size_t kBarWidth = 24;

double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}
}  // namespace

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e9) return "--:--:--";
  const long long whole = std::llround(seconds);
  char text[48];
  std::snprintf(text, sizeof text, "%02lld:%02lld:%02lld", whole / 3600 % 24, whole / 60 % 60,
                whole % 60);
  return whole >= 86400 ? std::to_string(whole / 86400) + "d " + text : text;
}

Progress::Progress(std::string label, int64_t total, ProgressStyle style)
    : label_(std::move(label)),
      total_(total),
      done_(style.start),
      style_(style),
      terminal_(::isatty(STDERR_FILENO) == 1),
      begin_(Clock::now()),
      last_(begin_) {}

double Progress::elapsed() const { return seconds_between(begin_, Clock::now()); }

std::string Progress::text(bool bar, double elapsed_seconds) const {
  std::string line = concat(label_, "  ", done_);
  if (total_ > 0) {
    const double part =
        std::clamp(static_cast<double>(done_) / static_cast<double>(total_), 0.0, 1.0);
    line.append(concat("/", total_));
    if (bar) {
      std::string cells(static_cast<size_t>(part * kBarWidth), '=');
      if (cells.size() < kBarWidth) cells.push_back('>');
      cells.resize(kBarWidth, ' ');
      line.append(concat(" [", cells, "] ", static_cast<int>(part * 100), "%"));
    }
  }
  if (!status_.empty()) line.append("  ").append(status_);
  line.append("  ").append(duration_text(elapsed_seconds));
  const auto since_start = static_cast<double>(done_ - style_.start);
  if (total_ > 0 && since_start > 0 && done_ < total_) {
    const double rest = elapsed_seconds * static_cast<double>(total_ - done_) / since_start;
    line.append("<").append(duration_text(rest));
  }
  return line;
}

void Progress::show() {
  if (terminal_) {
    log_status(text(true, elapsed()));
  } else {
    log_info(text(false, elapsed()));
  }
  last_ = Clock::now();
  shown_ = true;
  held_back_ = false;
}

void Progress::update(int64_t done, const std::string& status) {
  done_ = done;
  status_ = status;
  const double wait = terminal_ ? style_.bar_seconds : style_.plain_seconds;
  if (!shown_ || done_ == total_ || seconds_between(last_, Clock::now()) >= wait) {
    show();
  } else {
    held_back_ = true;
  }
}

void Progress::finish() {
  if (held_back_) show();
  if (terminal_ && shown_) {
    log_status("");
    log_info(text(false, elapsed()));
  }
  shown_ = false;
}

}  // namespace mullion
