// A set of strings that answers: which is the longest one that a text starts with? Used to find
// special tokens in a text. A sorted list narrowed byte by byte: O(length · log size) a question.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mullion {

class PrefixSet {
 public:
  // Empty strings are left out.
  explicit PrefixSet(std::vector<std::pair<std::string, int32_t>> entries)
      : entries_(std::move(entries)) {
    std::erase_if(entries_, [](const auto& entry) { return entry.first.empty(); });
    std::sort(entries_.begin(), entries_.end());
    for (const auto& entry : entries_) starts_[static_cast<uint8_t>(entry.first[0])] = true;
  }
  PrefixSet() = default;

  bool empty() const { return entries_.empty(); }

  // The value of the longest entry that `text` starts with, and its length; {-1, 0} if none does.
  std::pair<int32_t, size_t> longest(std::string_view text) const {
    std::pair<int32_t, size_t> best{-1, 0};
    if (text.empty() || !starts_[static_cast<uint8_t>(text[0])]) return best;
    auto low = entries_.begin(), high = entries_.end();
    for (size_t k = 0; low != high && k < text.size(); ++k) {
      // Within [low, high) all entries agree in their first k bytes; an entry that ends there
      // sorts first.
      auto at = [k](const auto& e) {
        return k < e.first.size() ? static_cast<uint8_t>(e.first[k]) : -1;
      };
      int want = static_cast<uint8_t>(text[k]);
      low = std::partition_point(low, high, [&](const auto& e) { return at(e) < want; });
      high = std::partition_point(low, high, [&](const auto& e) { return at(e) == want; });
      if (low != high && low->first.size() == k + 1) best = {low->second, k + 1};
    }
    return best;
  }

 private:
  std::vector<std::pair<std::string, int32_t>> entries_;
  std::array<bool, 256> starts_{};
};

}  // namespace mullion
