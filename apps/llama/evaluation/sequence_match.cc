// Ratcliff and Obershelp's matching of two sequences, with the rules of Python's difflib.
#include <algorithm>
#include <map>
#include <vector>

#include "apps/llama/evaluation/text_metrics.h"

namespace mullion {
namespace {

class Matcher {
 public:
  Matcher(std::u32string_view a, std::u32string_view b) : a_(a), b_(b) {
    for (size_t j = 0; j < b.size(); ++j) places_[b[j]].push_back(j);
    if (b.size() >= 200)
      std::erase_if(places_,
                    [&](const auto& entry) { return entry.second.size() > b.size() / 100 + 1; });
  }

  // Elements of all matching blocks of a[a0, a1) and b[b0, b1): the longest one, and those before
  // and after it.
  size_t matches() const {
    size_t total = 0;
    std::vector<Range> left = {{0, a_.size(), 0, b_.size()}};
    while (!left.empty()) {
      const Range r = left.back();
      left.pop_back();
      const Block m = longest(r);
      if (m.length == 0) continue;
      total += m.length;
      left.push_back({r.a0, m.a, r.b0, m.b});
      left.push_back({m.a + m.length, r.a1, m.b + m.length, r.b1});
    }
    return total;
  }

 private:
  struct Range {
    size_t a0, a1, b0, b1;
  };
  struct Block {
    size_t a, b, length;
  };

  // The longest block that frequent elements do not begin, the earliest in a, then in b; then
  // extended over whatever is equal beside it.
  Block longest(const Range& r) const {
    Block best{r.a0, r.b0, 0};
    std::map<size_t, size_t> lengths;  // of the run that ends at a[i - 1] and b[j]
    for (size_t i = r.a0; i < r.a1; ++i) {
      std::map<size_t, size_t> next;
      const auto places = places_.find(a_[i]);
      if (places != places_.end())
        for (const size_t j : places->second) {
          if (j < r.b0) continue;
          if (j >= r.b1) break;
          const auto before = j == 0 ? lengths.end() : lengths.find(j - 1);
          const size_t k = next[j] = (before == lengths.end() ? 0 : before->second) + 1;
          if (k > best.length) best = {i + 1 - k, j + 1 - k, k};
        }
      lengths = std::move(next);
    }
    while (best.a > r.a0 && best.b > r.b0 && a_[best.a - 1] == b_[best.b - 1]) {
      --best.a;
      --best.b;
      ++best.length;
    }
    while (best.a + best.length < r.a1 && best.b + best.length < r.b1 &&
           a_[best.a + best.length] == b_[best.b + best.length])
      ++best.length;
    return best;
  }

  std::u32string_view a_, b_;
  std::map<char32_t, std::vector<size_t>> places_;
};

}  // namespace

double sequence_similarity(std::u32string_view a, std::u32string_view b) {
  if (a.empty() && b.empty()) return 1;
  return 2 * static_cast<double>(Matcher(a, b).matches()) /
         static_cast<double>(a.size() + b.size());
}

}  // namespace mullion
