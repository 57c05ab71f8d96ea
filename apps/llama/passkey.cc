// NumPy's generator first, then the prompts in LongLoRA's words.
#include "apps/llama/passkey.h"

#include <algorithm>
#include <cmath>

#include "models/llama/generate.h"

namespace mullion {

namespace {
constexpr int kState = 624, kMiddle = 397;
constexpr char kTask[] =
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize "
    "them. I will quiz you about the important information there.";
constexpr char kFiller[] =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";
constexpr char kQuestion[] = "What is the pass key? The pass key is";

std::string filler(int64_t characters) {
  std::string text;
  while (static_cast<int64_t>(text.size()) < characters) text += std::string(kFiller) + " ";
  return text.substr(0, static_cast<size_t>(characters));
}
}  // namespace

// Matsumoto and Nishimura 1998.
NumpyRandom::NumpyRandom(uint32_t seed) {
  state_[0] = seed;
  for (uint32_t i = 1; i < kState; ++i)
    state_[i] = 1812433253u * (state_[i - 1] ^ (state_[i - 1] >> 30)) + i;
}

uint32_t NumpyRandom::next() {
  if (at_ == kState) {
    for (int i = 0; i < kState; ++i) {
      const uint32_t y = (state_[i] & 0x80000000u) | (state_[(i + 1) % kState] & 0x7fffffffu);
      state_[i] = state_[(i + kMiddle) % kState] ^ (y >> 1) ^ ((y & 1) != 0 ? 0x9908b0dfu : 0);
    }
    at_ = 0;
  }
  uint32_t y = state_[at_++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680u;
  y ^= (y << 15) & 0xefc60000u;
  return y ^ (y >> 18);
}

int64_t NumpyRandom::randint(int64_t low, int64_t high) {
  CHECK(low < high && high - low - 1 <= int64_t{UINT32_MAX}, "randint: no range [", low, ", ", high,
        ")");
  const auto range = static_cast<uint32_t>(high - low - 1);
  if (range == 0) return low;
  uint32_t mask = range;
  for (const int shift : {1, 2, 4, 8, 16}) mask |= mask >> shift;
  uint32_t draw = next() & mask;
  while (draw > range) draw = next() & mask;
  return low + draw;
}

int64_t passkey_garbage(int64_t i, int64_t interval) {
  return static_cast<int64_t>(3.75 * static_cast<double>((i + 1) * interval)) / 1024 * 1024;
}

PasskeyCase passkey_case(int64_t garbage, uint32_t seed, std::optional<double> depth) {
  CHECK_AS(Fault::usage, garbage > 0, "passkey: an interval so short that there is no filler");
  NumpyRandom random(seed);
  PasskeyCase result;
  result.garbage = garbage;
  result.prefix = random.randint(0, garbage);
  result.key = random.randint(1, 50000);
  if (depth) result.prefix = std::llround(*depth * static_cast<double>(garbage));
  const std::string key = std::to_string(result.key);
  result.prompt = std::string(kTask) + "\n" + filler(result.prefix) + "\nThe pass key is " + key +
                  ". Remember it. " + key + " is the pass key.\n" +
                  filler(garbage - result.prefix) + "\n" + kQuestion;
  return result;
}

PasskeyTokens passkey_tokens(const PasskeyCase& passkey, const Tokenizer& tokenizer, bool bos) {
  EncodeOptions encode;
  encode.bos = bos;
  PasskeyTokens result;
  result.prompt = tokenizer.encode(passkey.prompt, encode);
  const std::vector<int32_t> whole =
      tokenizer.encode(passkey.prompt + " " + std::to_string(passkey.key), encode);
  CHECK(whole.size() > result.prompt.size() &&
            std::equal(result.prompt.begin(), result.prompt.end(), whole.begin()),
        "passkey: the tokenizer joins the answer to the question");
  result.answer.assign(whole.begin() + static_cast<std::ptrdiff_t>(result.prompt.size()),
                       whole.end());
  return result;
}

PasskeyTrial passkey_trial(const LanguageModel& model, const Tokenizer& tokenizer, int64_t garbage,
                           uint32_t seed, bool bos, const KvCacheOptions& cache,
                           std::optional<double> depth) {
  const PasskeyCase passkey = passkey_case(garbage, seed, depth);
  const PasskeyTokens tokens = passkey_tokens(passkey, tokenizer, bos);
  GenerateOptions how;
  how.max_tokens = static_cast<int64_t>(tokens.answer.size());
  how.cache = cache;
  const Generated generated = generate(model, tokens.prompt, how);
  PasskeyTrial trial;
  trial.garbage = garbage;
  trial.seed = seed;
  trial.tokens = static_cast<int64_t>(tokens.prompt.size());
  trial.position = static_cast<double>(passkey.prefix) / static_cast<double>(garbage);
  trial.expected = std::to_string(passkey.key);
  DecodeOptions decode;
  decode.strip_space_prefix = false;
  trial.answered = tokenizer.decode(generated.ids, decode);
  trial.correct = generated.ids == tokens.answer;
  return trial;
}

}  // namespace mullion
