// Passkey retrieval (Mohtashami and Jaggi 2023, in LongLoRA's form): a number is hidden in filler
// text, and the model is asked for it at the end. The cases are those of LongLoRA's script: its
// random numbers are NumPy's old generator, MT19937 seeded by init_genrand, integers by masking
// and rejection.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "models/language_model.h"

namespace mullion {

// numpy.random.RandomState(seed).randint(low, high) for ranges below 2^32.
class NumpyRandom {
 public:
  explicit NumpyRandom(uint32_t seed);
  int64_t randint(int64_t low, int64_t high);

 private:
  uint32_t next();
  uint32_t state_[624];
  int at_ = 624;
};

struct PasskeyCase {
  int64_t garbage = 0;  // characters of filler
  int64_t prefix = 0;   // of them before the key
  int64_t key = 0;
  std::string prompt;
};
// Filler of the i-th length, i from 0, in characters: floor(3.75 (i + 1) interval / 1024) 1024.
int64_t passkey_garbage(int64_t i, int64_t interval);
// `depth`: of the key, from 0 to 1, instead of a random one; the key is the same.
PasskeyCase passkey_case(int64_t garbage, uint32_t seed, std::optional<double> depth = {});

struct PasskeyTokens {
  std::vector<int32_t> prompt, answer;
};
// The answer is what follows the prompt in the ids of "PROMPT KEY".
PasskeyTokens passkey_tokens(const PasskeyCase& passkey, const Tokenizer& tokenizer, bool bos);

struct PasskeyTrial {
  int64_t garbage = 0, seed = 0, tokens = 0;  // tokens of the prompt
  double position = 0;                        // of the key, as a fraction of the filler
  std::string expected, answered;
  bool correct = false;
};
PasskeyTrial passkey_trial(const LanguageModel& model, const Tokenizer& tokenizer, int64_t garbage,
                           uint32_t seed, bool bos, const KvCacheOptions& cache = {},
                           std::optional<double> depth = {});

}  // namespace mullion
