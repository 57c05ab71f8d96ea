// ROUGE (Lin 2004), in the forms of the two packages that papers use.
#include <algorithm>
#include <map>
#include <set>

#include "apps/llama/evaluation/text_metrics.h"

namespace mullion {
namespace {

using Words = std::vector<std::string>;

double f1_of(double shared, size_t answer, size_t right) {
  if (shared == 0) return 0;
  const double precision = shared / static_cast<double>(answer),
               recall = shared / static_cast<double>(right);
  return 2 * precision * recall / (precision + recall);
}

// lengths[i][j]: of the longest common subsequence of a's first i and b's first j words.
class CommonLengths {
 public:
  CommonLengths(const Words& a, const Words& b)
      : width_(b.size() + 1), lengths_((a.size() + 1) * width_) {
    for (size_t i = 1; i <= a.size(); ++i)
      for (size_t j = 1; j <= b.size(); ++j)
        lengths_[i * width_ + j] = a[i - 1] == b[j - 1]
                                       ? (*this)(i - 1, j - 1) + 1
                                       : std::max((*this)(i - 1, j), (*this)(i, j - 1));
  }
  int32_t operator()(size_t i, size_t j) const { return lengths_[i * width_ + j]; }

 private:
  size_t width_;
  std::vector<int32_t> lengths_;
};

// One of the longest common subsequences; where several are, which one decides over the union.
void add_common_words(const Words& right, const Words& answer, std::set<std::string>& words) {
  const CommonLengths lengths(right, answer);
  for (size_t i = right.size(), j = answer.size(); i > 0 && j > 0;) {
    if (right[i - 1] == answer[j - 1]) {
      words.insert(right[i - 1]);
      --i;
      --j;
    } else if (lengths(i - 1, j) > lengths(i, j - 1)) {
      --i;
    } else {
      --j;
    }
  }
}

// Each sentence as its words. A sentence of spaces alone is one empty word.
std::vector<Words> sentences_of(std::string_view text) {
  std::vector<Words> sentences;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('.', begin), text.size());
    if (end > begin) {
      sentences.push_back(words_of(text.substr(begin, end - begin)));
      if (sentences.back().empty()) sentences.back().emplace_back();
    }
    begin = end + 1;
  }
  return sentences;
}

size_t different_words(const std::vector<Words>& sentences) {
  std::set<std::string> words;
  for (const Words& sentence : sentences) words.insert(sentence.begin(), sentence.end());
  return words.size();
}

Words stemless_words(std::string_view text) {
  Words words(1);
  for (const char c : lower_case(text)) {
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
      words.back() += c;
    else if (!words.back().empty())
      words.emplace_back();
  }
  if (words.back().empty()) words.pop_back();
  return words;
}

double rouge_n(const Words& answer, const Words& right, size_t n) {
  const auto count_of = [n](const Words& words) {
    return words.size() < n ? 0 : words.size() - n + 1;
  };
  std::map<Words, int64_t> left;
  const auto gram = [n](const Words& words, size_t i) {
    const auto at = words.begin() + static_cast<int64_t>(i);
    return Words(at, at + static_cast<int64_t>(n));
  };
  for (size_t i = 0; i < count_of(right); ++i) ++left[gram(right, i)];
  double shared = 0;
  for (size_t i = 0; i < count_of(answer); ++i)
    if (left[gram(answer, i)]-- > 0) ++shared;
  return f1_of(shared, count_of(answer), count_of(right));
}

}  // namespace

double rouge_l_of_summary(std::string_view answer, std::string_view right) {
  const std::vector<Words> a = sentences_of(answer), b = sentences_of(right);
  if (a.empty() || b.empty()) return 0;
  std::set<std::string> shared;
  for (const Words& sentence : b)
    for (const Words& other : a) add_common_words(sentence, other, shared);
  const auto n = static_cast<double>(shared.size());
  const double recall = n / static_cast<double>(different_words(b)),
               precision = n / static_cast<double>(different_words(a));
  return 2 * (precision * recall) / (precision + recall + 1e-8);
}

Rouge rouge_of(std::string_view answer, std::string_view right) {
  const Words a = stemless_words(answer), b = stemless_words(right);
  return {rouge_n(a, b, 1), rouge_n(a, b, 2),
          f1_of(CommonLengths(b, a)(b.size(), a.size()), a.size(), b.size())};
}

}  // namespace mullion
