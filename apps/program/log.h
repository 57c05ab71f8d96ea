// What a program tells its user, on stderr; stdout is for results. A run also keeps the lines in
// RUN/train.log. A full disk or a closed terminal never stops a program: such lines are dropped.
#pragma once
#include <filesystem>
#include <string>

#include "tensor/check.h"

namespace mullion {

enum class LogLevel { quiet = -1, normal = 0, verbose = 1, debug = 2 };

void set_log_level(int level);  // as counted by -v and -q
// Also appends every line to `file`; "" ends that.
void log_to_file(const std::filesystem::path& file);

// One line at a level: printed where the level asked for is at least that.
void log_line(LogLevel level, const std::string& text);

template <typename... Args>
void log_info(const Args&... args) {
  log_line(LogLevel::normal, concat(args...));
}
template <typename... Args>
void log_verbose(const Args&... args) {
  log_line(LogLevel::verbose, concat(args...));
}
template <typename... Args>
void log_warning(const Args&... args) {
  log_line(LogLevel::quiet, concat("warning: ", args...));
}

// Text that stands on the last line of a terminal (a progress bar) until the next line or status
// replaces it; "" removes it.
void log_status(const std::string& text);

}  // namespace mullion
