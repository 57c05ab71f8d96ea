// Code points classed as Python's regular expressions class them, words of them, F1 over words.
#include "apps/llama/evaluation/text_metrics.h"

#include <utf8proc.h>

#include <algorithm>
#include <map>

#include "data/utf8.h"

namespace mullion {
namespace {

constexpr char32_t kReplacement = 0xFFFD, kSigma = 0x3A3, kFinalSigma = 0x3C2;

utf8proc_category_t category_of(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

bool is_letter(char32_t c) {
  const auto category = category_of(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

// What a regular expression's \w matches.
bool is_word_character(char32_t c) {
  const auto category = category_of(c);
  return c == '_' || is_letter(c) ||
         (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO);
}

bool is_ascii_punctuation(char32_t c) {
  return (c > 0x20 && c < 0x30) || (c > 0x39 && c < 0x41) || (c > 0x5A && c < 0x61) ||
         (c > 0x7A && c < 0x7F);
}

// Calls use(text) for each run of code points of which `inside` holds.
template <typename Inside, typename Use>
void each_run(const std::u32string& text, const Inside& inside, const Use& use) {
  std::string run;
  for (const char32_t c : text) {
    if (inside(c)) {
      append_utf8(run, c);
    } else if (!run.empty()) {
      use(run);
      run.clear();
    }
  }
  if (!run.empty()) use(run);
}

bool is_cased(char32_t c) {
  const auto category = category_of(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LT;
}

// What may stand within a word without being one of its letters (Unicode's Case_Ignorable).
bool is_case_ignorable(char32_t c) {
  constexpr std::u32string_view kMiddles =
      U"'.:\u00B7\u0387\u055F\u05F4\u2018\u2019\u2024\u2027\uFE13\uFE52\uFE55\uFF07\uFF0E\uFF1A";
  switch (category_of(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return kMiddles.find(c) != std::u32string_view::npos;
  }
}

// Whether a sigma at `at` ends its word: a letter before it and none after.
bool ends_word(const std::u32string& text, size_t at) {
  size_t before = at, after = at + 1;
  while (before > 0 && is_case_ignorable(text[before - 1])) --before;
  while (after < text.size() && is_case_ignorable(text[after])) ++after;
  return before > 0 && is_cased(text[before - 1]) &&
         (after == text.size() || !is_cased(text[after]));
}

std::u32string lowered(const std::u32string& text) {
  std::u32string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char32_t c = text[i];
    if (c == 0x130) {  // I with a dot: i and the dot
      out += U"i\u0307";
    } else if (c == kSigma && ends_word(text, i)) {
      out += kFinalSigma;
    } else {
      out += static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
    }
  }
  return out;
}

}  // namespace

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x1F) || c == 0x85 || c == 0x2028 ||
         c == 0x2029 || category_of(c) == UTF8PROC_CATEGORY_ZS;
}

std::u32string code_points(std::string_view text) {
  std::u32string out;
  const auto* at = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  for (auto left = static_cast<utf8proc_ssize_t>(text.size()); left > 0;) {
    utf8proc_int32_t c = 0;
    const auto n = utf8proc_iterate(at, left, &c);
    out += n > 0 ? static_cast<char32_t>(c) : kReplacement;
    const auto step = std::max<utf8proc_ssize_t>(n, 1);
    at += step;
    left -= step;
  }
  return out;
}

std::string lower_case(std::string_view text) {
  std::string out;
  for (const char32_t c : lowered(code_points(text))) append_utf8(out, c);
  return out;
}

std::string capitalized(std::string_view text) {
  const std::u32string letters = code_points(text);
  if (letters.empty()) return "";
  std::string out;
  append_utf8(out,
              static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(letters[0]))));
  const std::u32string small = lowered(letters);
  for (const char32_t c : small.substr(letters[0] == 0x130 ? 2 : 1)) append_utf8(out, c);
  return out;
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  each_run(
      code_points(text), [](char32_t c) { return !is_white_space(c); },
      [&](const std::string& word) { words.push_back(word); });
  return words;
}

std::vector<std::string> plain_words(std::string_view text, bool keep_case) {
  std::u32string letters = code_points(text);
  if (!keep_case) letters = lowered(letters);
  std::erase_if(letters, is_ascii_punctuation);
  // An article is a word between word boundaries, which quotation marks beyond ASCII are as well;
  // it leaves a space.
  std::u32string kept;
  for (size_t i = 0; i < letters.size();) {
    size_t end = i;
    while (end < letters.size() && is_word_character(letters[end])) ++end;
    const std::u32string run = letters.substr(i, end - i);
    kept += run == U"a" || run == U"an" || run == U"the" ? U" " : run;
    if (end < letters.size()) kept += letters[end];
    i = end + 1;
  }
  std::vector<std::string> words;
  each_run(
      kept, [](char32_t c) { return !is_white_space(c); },
      [&](const std::string& word) { words.push_back(word); });
  return words;
}

double word_f1(std::string_view answer, std::string_view right) {
  const std::vector<std::string> a = plain_words(answer), b = plain_words(right);
  std::map<std::string, int64_t> left;
  for (const std::string& word : b) ++left[word];
  double shared = 0;
  for (const std::string& word : a)
    if (left[word]-- > 0) ++shared;
  if (shared == 0) return 0;
  const double precision = shared / static_cast<double>(a.size()),
               recall = shared / static_cast<double>(b.size());
  return 2 * precision * recall / (precision + recall);
}

double number_share(std::string_view answer, std::string_view number) {
  double runs = 0, right = 0;
  each_run(
      code_points(answer), [](char32_t c) { return category_of(c) == UTF8PROC_CATEGORY_ND; },
      [&](const std::string& run) {
        ++runs;
        if (run == number) ++right;
      });
  return runs == 0 ? 0 : right / runs;
}

}  // namespace mullion
