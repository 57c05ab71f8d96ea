// A small language in which a longer context really helps. Every document has its own lexicon, a
// random one-to-one map f from 96 keys to 96 values, and is BOS, then pairs k1 f(k1) k2 f(k2) ... .
// Keys follow a Markov chain that all documents share (three successors each; with probability 0.15
// any key), so a model can learn them by heart; a value can only be known where its key occurred
// earlier in the same document.
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace mullion {

constexpr int32_t kLexiconKeys = 96;  // ids [0, 96): keys; [96, 192): values
constexpr int32_t kLexiconBos = 2 * kLexiconKeys, kLexiconEos = kLexiconBos + 1;
constexpr int32_t kLexiconVocab = kLexiconEos + 1;

class Lexicon {
 public:
  // `seed` decides the chain and, with a document's number, everything in it.
  explicit Lexicon(uint64_t seed);
  // The first out.size() tokens of document `number`; the same numbers for any length.
  // `repeats` in [0, 1]: probability that the next key is not the chain's but one of the document's
  // earlier pairs, any of them. Such documents reward looking values up from their first lines on,
  // and teach it sooner than the language itself does.
  void document(uint64_t number, std::span<int32_t> out, float repeats = 0) const;
  const std::array<std::array<int32_t, 3>, kLexiconKeys>& successors() const { return successors_; }

 private:
  uint64_t seed_;
  std::array<std::array<int32_t, 3>, kLexiconKeys> successors_;
};

// How a document reads. tight: "ba=KO de=LU ", a value with the space behind it; spaced:
// " ba: KO de: LU", as evaluations join a prompt and an answer.
enum class LexiconWords { tight, spaced };
// tokenizer.json and tokenizer_config.json.
void write_lexicon_tokenizer(const std::filesystem::path& folder,
                             LexiconWords words = LexiconWords::tight);

}  // namespace mullion
