// The longest end of the text that begins a stop string is held back.
#include "data/stop_strings.h"

#include <algorithm>
#include <utility>

#include "tensor/check.h"

namespace mullion {

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_)
    CHECK_AS(Fault::usage, !stop.empty(), "--stop: a string is empty");
}

std::string StopStrings::push(std::string_view piece) {
  if (found_) return "";
  held_ += piece;
  size_t end = std::string::npos;
  for (const std::string& stop : stops_) end = std::min(end, held_.find(stop));
  if (end != std::string::npos) {
    found_ = true;
    held_.resize(end);
    return std::exchange(held_, {});
  }
  // The longest end of the text that begins a stop string.
  size_t kept = 0;
  for (const std::string& stop : stops_)
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > kept; --n)
      if (held_.ends_with(std::string_view(stop).substr(0, n))) kept = n;
  std::string shown = held_.substr(0, held_.size() - kept);
  held_.erase(0, shown.size());
  return shown;
}

std::string StopStrings::finish() { return std::exchange(held_, {}); }

}  // namespace mullion
