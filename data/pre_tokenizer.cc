// The split patterns, run by PCRE2 (UTF and Unicode properties, compiled where it can). They are
// linear in the text: what a failed alternative scanned, one of the next ones consumes.
// White space is spelled out, as Unicode's White_Space: PCRE2's \s also takes U+180E.
#include "data/pre_tokenizer.h"

#include <algorithm>

#include "data/utf8.h"
#include "tensor/check.h"

#ifdef MULLION_HAVE_PCRE2
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#endif

namespace mullion {
namespace {

#define SPACES                                                                                 \
  "\\t-\\r\\x20\\x85\\xA0\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{" \
  "3000}"
#define CONTRACTIONS "'s|'t|'re|'ve|'m|'ll|'d"

constexpr const char* kGpt2 =
    CONTRACTIONS "| ?\\p{L}+| ?\\p{N}+| ?[^" SPACES "\\p{L}\\p{N}]+|[" SPACES "]+(?![^" SPACES
                 "])|[" SPACES "]+";
// Every digit apart, then the pattern of GPT-2 on what lies between digits: white space before a
// digit ends its stretch, so it stays whole as at the end of a text.
constexpr const char* kDigitsGpt2 =
    CONTRACTIONS "|\\p{N}| ?\\p{L}+| ?[^" SPACES "\\p{L}\\p{N}]+|[" SPACES "]+(?![^" SPACES
                 "\\p{N}])|[" SPACES "]+";
constexpr const char* kLlama3 = "(?i:" CONTRACTIONS
                                ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
                                "| ?[^" SPACES "\\p{L}\\p{N}]+[\\r\\n]*|[" SPACES
                                "]*[\\r\\n]+|[" SPACES "]+(?![^" SPACES "])|[" SPACES "]+";

#undef CONTRACTIONS
#undef SPACES

// Applied one after another, each within the words of the one before; what a pattern does not
// match is a word too.
std::vector<const char*> patterns_of(const std::string& pre) {
  if (pre == "llama-bpe") return {kLlama3};
  if (pre == "smollm" || pre == "starcoder") return {kDigitsGpt2};
  if (pre == "gpt-2") return {kGpt2};
  if (pre == "default") {
    return {"[\\p{P}\\$\\+<=>\\^~\\|]+", kGpt2, "\\p{N}+", "[0-9][0-9][0-9]"};
  }
  fail(Fault::bad_file, "tokenizer: unknown pre-tokenizer '", pre,
       "' (known: llama-bpe, smollm, starcoder, gpt-2, default)");
}

}  // namespace

#ifdef MULLION_HAVE_PCRE2

class PreTokenizer::Pattern {
 public:
  explicit Pattern(const char* regex) {
    int error = 0;
    PCRE2_SIZE at = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(regex), PCRE2_ZERO_TERMINATED,
                              PCRE2_UTF | PCRE2_UCP, &error, &at, nullptr));
    CHECK(code_, "pre-tokenizer: PCRE2 refuses the pattern at ", at, " (error ", error, ")");
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);  // else it is interpreted
  }

  // `text` is valid UTF-8.
  void split(std::string_view text, std::vector<std::string_view>& words) const {
    std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
        pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
    CHECK_AS(Fault::memory, match, "pre-tokenizer: out of memory");
    size_t done = 0;
    while (done < text.size()) {
      int found = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                              done, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, match.get(), nullptr);
      CHECK(found >= 0 || found == PCRE2_ERROR_NOMATCH, "pre-tokenizer: PCRE2 error ", found,
            " at byte ", done);
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.get());
      size_t begin = found < 0 ? text.size() : range[0], end = found < 0 ? begin : range[1];
      if (begin > done) words.push_back(text.substr(done, begin - done));
      if (end > begin) words.push_back(text.substr(begin, end - begin));
      done = end;
    }
  }

 private:
  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  };
  std::unique_ptr<pcre2_code, Free> code_;
};

#else

class PreTokenizer::Pattern {
 public:
  explicit Pattern(const char*) {
    fail(Fault::usage, "byte-level tokenizers need PCRE2, which this build was made without");
  }
  void split(std::string_view text, std::vector<std::string_view>& words) const {
    words.push_back(text);
  }
};

#endif

PreTokenizer::PreTokenizer(const std::string& pre) {
  for (const char* regex : patterns_of(pre)) patterns_.push_back(std::make_unique<Pattern>(regex));
}

PreTokenizer::~PreTokenizer() = default;

void PreTokenizer::split(std::string_view text, std::vector<std::string_view>& words) const {
  std::vector<std::string_view> pieces, cut;
  for (size_t at = 0; at < text.size();) {
    size_t begin = at;
    bool valid = utf8_character(text.substr(at)) > 0;
    while (at < text.size()) {
      size_t length = utf8_character(text.substr(at));
      if ((length > 0) != valid) break;
      at += std::max<size_t>(length, 1);
    }
    std::string_view stretch = text.substr(begin, at - begin);
    if (!valid) {
      words.push_back(stretch);
      continue;
    }
    pieces.assign(1, stretch);
    for (size_t i = 0; i + 1 < patterns_.size(); ++i) {
      cut.clear();
      for (std::string_view piece : pieces) patterns_[i]->split(piece, cut);
      pieces.swap(cut);
    }
    for (std::string_view piece : pieces) patterns_.back()->split(piece, words);
  }
}

std::string pre_of_split_regex(std::string_view regex) {
  if (regex ==
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
      "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+") {
    return "llama-bpe";
  }
  if (regex ==
      "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+") {
    return "gpt-2";
  }
  return "";
}

}  // namespace mullion
