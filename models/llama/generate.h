// Text from a model, token by token, with the keys and values of what came before kept in a cache.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "models/language_model.h"

namespace mullion {

// How the next token is drawn. Temperature 0 takes the likeliest (the first of equals). Otherwise
// probabilities softmax(z / temperature) lose all but the top_k likeliest (0: none lost), then all
// but the fewest that sum up to top_p (Holtzman et al. 2020), then those below min_p times the
// largest; one of the rest is drawn.
struct SamplerOptions {
  double temperature = 0;
  int64_t top_k = 0;
  double top_p = 1, min_p = 0;
  uint64_t seed = 0;
};

class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options);
  // Draw number `draw` of a stream of random numbers: a function of (seed, draw, logits).
  int32_t pick(std::span<const float> logits, uint64_t draw) const;

 private:
  SamplerOptions options_;
};

struct GenerateOptions {
  int64_t max_tokens = 0;  // 0: up to the model's context
  SamplerOptions sampling;
  std::vector<int32_t> stop_ids;  // the end-of-text ids: they end the text and are no part of it
  // Called with each token; false ends the text ("stopped").
  std::function<bool(int32_t)> on_token;
};

struct Generated {
  std::vector<int32_t> ids;
  std::string stop;  // "eos", "length", "context" or "stopped"
};

// The tokens to follow `prompt`, which has at least one and fits the model's context.
Generated generate(const LanguageModel& model, std::span<const int32_t> prompt,
                   const GenerateOptions& options);

}  // namespace mullion
