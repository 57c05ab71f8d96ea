// Perplexity of a model on token ids, by the protocols of LongLoRA's eval.py and of llama.cpp's
// llama-perplexity. Both score windows independently of each other, without a cache.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "models/language_model.h"

namespace mullion {

// Reads the ids [begin, begin + out.size()).
using ReadIds = std::function<void(int64_t begin, std::span<int32_t> out)>;

struct PerplexityOptions {
  // longlora: windows begin at 0, stride, 2 stride, ... below length - context, the last one
  //   left out; every next token of each is scored (context - 1 a window).
  // llamacpp: disjoint windows; the second half of each is scored (context - context / 2 - 1).
  bool llamacpp = false;
  int64_t context = 0;
  int64_t stride = 256;             // longlora
  int64_t max_windows = 0;          // 0: all
  int64_t batch = 1;                // windows at a time; changes nothing but speed
  std::optional<int32_t> first_id;  // takes the place of each window's first token: BOS
};

struct Perplexity {
  double nll = 0;  // mean over the scored tokens, in nats
  double perplexity = 0;
  int64_t windows = 0, tokens = 0;
  bool complete = true;  // false: a signal ended it
};

// Where the windows begin in `length` ids. Error(usage) where there is none.
std::vector<int64_t> perplexity_windows(int64_t length, const PerplexityOptions& options);
// `progress` is called with the windows done and the mean so far; false ends it.
Perplexity perplexity(const LanguageModel& model, int64_t length, const ReadIds& read,
                      const PerplexityOptions& options,
                      const std::function<bool(int64_t, double)>& progress = {});

// A stretch of ids of which the last `scored` are predicted, each from those before it in the
// stretch.
struct ScoredStretch {
  int64_t begin, end, scored;
  bool operator==(const ScoredStretch&) const = default;
};
// transformers' sliding window: `context` ids, `stride` further each time, of which those are
// scored that no stretch before has scored. The first id of all is never predicted.
std::vector<ScoredStretch> sliding_stretches(int64_t length, int64_t context, int64_t stride);
// lm-eval's rolling windows: every id but the first, which stands in front of a document, exactly
// once, behind as many as fit.
std::vector<ScoredStretch> rolling_stretches(int64_t length, int64_t context);
// Sum over all of them; `nll` is its mean. Stretches of equal shape share a batch.
Perplexity stretch_perplexity(const LanguageModel& model, std::span<const ScoredStretch> stretches,
                              const ReadIds& read, int64_t batch,
                              const std::function<bool(int64_t, double)>& progress = {});

}  // namespace mullion
