// Text from a model, token by token, with the keys and values of what came before kept in a cache.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "models/language_model.h"

namespace mullion {

// How the next token is drawn. First the logits of tokens that stand in the text already are
// divided by repeat_penalty where they are positive and multiplied by it where not (Keskar et al.
// 2019; 1: as they are). Temperature 0 then takes the likeliest (the first of equals). Otherwise
// probabilities softmax(z / temperature) lose all but the top_k likeliest (0: none lost), then all
// but the fewest that sum up to top_p (Holtzman et al. 2020), then those below min_p times the
// largest; one of the rest is drawn.
struct SamplerOptions {
  double temperature = 0;
  int64_t top_k = 0;
  double top_p = 1, min_p = 0;
  uint64_t seed = 0;
  double repeat_penalty = 1;
};

class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options);
  // Draw number `draw` of a stream of random numbers: a function of (seed, draw, logits, present).
  // `present`: the ids that the repeat penalty is for, each once.
  int32_t pick(std::span<const float> logits, uint64_t draw,
               std::span<const int32_t> present = {}) const;
  bool penalizes() const { return options_.repeat_penalty != 1; }

 private:
  int32_t pick_of(std::span<const float> logits, uint64_t draw) const;

  SamplerOptions options_;
};

// Sequences that one model continues, each with a cache that lives as long as the sequence: the
// turns of a chat, the choices of a question, the requests of a server. Sequences of any lengths
// take a step together, in which weights are read once for all of them.
class Generation {
 public:
  using Row = int64_t;
  // The model must outlive it. Several sessions may share a model, each in a thread of its own.
  // `context`: the tokens of a sequence, at most the model's; 0: those.
  explicit Generation(const LanguageModel& model, const KvCacheOptions& cache = {},
                      int64_t context = 0);

  // A new sequence that has seen nothing.
  Row add();
  // One that has seen what another has.
  Row fork(Row row);
  void remove(Row row);
  // A block: a prompt, or a later turn. Error(usage) where it is empty or does not fit the context.
  void feed(Row row, std::span<const int32_t> ids);
  // The beginning of a block: the next feed() of the sequence, or of one forked from it, completes
  // it, and only then is anything evicted. For prompts that begin alike.
  void feed_beginning(Row row, std::span<const int32_t> ids);
  // One more token for each of several sequences.
  struct Next {
    Row row;
    int32_t id;
  };
  void step(std::span<const Next> next);
  // For each of several sequences, the log-probability of each of its `ids` after what it has seen
  // and the ids before it. All but the last are fed; the sequences take their steps together.
  std::vector<std::vector<double>> score(std::span<const Row> rows,
                                         std::span<const std::vector<int32_t>> ids);
  // (V) of the token to follow what the sequence has seen last.
  const std::vector<float>& logits(Row row) const { return at(row).logits; }
  const KvCache& cache(Row row) const { return *at(row).cache; }
  KvCache& cache(Row row) { return *at(row).cache; }
  // Tokens that may be fed yet.
  int64_t room(Row row) const;
  int64_t context() const { return context_; }
  const LanguageModel& model() const { return model_; }
  const KvCacheOptions& cache_options() const { return options_; }

 private:
  void see(std::span<const Next> next);  // step(), by exact products
  struct Sequence {
    std::unique_ptr<KvCache> cache;  // null: removed
    std::vector<float> logits;
    int64_t begun = 0;  // tokens of a block whose end has not been fed
  };
  const Sequence& at(Row row) const;
  Sequence& at(Row row);
  Row place(Sequence sequence);
  void feed_part(Sequence& s, std::span<const int32_t> ids, int64_t block);

  const LanguageModel& model_;
  KvCacheOptions options_;
  int64_t context_;
  std::vector<Sequence> rows_;
};

// Log-probabilities of n ids, by the hidden states (1, n, C) of the tokens before them.
std::vector<double> log_probabilities(const LanguageModel& model, const Tensor& hidden,
                                      std::span<const int32_t> ids);
// Log-probabilities of ids[from..], each after all before it, in one pass over all ids with a cache
// that has seen nothing yet.
std::vector<double> score_in_one_pass(const LanguageModel& model, std::span<const int32_t> ids,
                                      int64_t from, KvCache& cache);

struct GenerateOptions {
  int64_t max_tokens = 0;  // 0: up to the context
  SamplerOptions sampling;
  std::vector<int32_t> stop_ids;  // the end-of-text ids: they end the text and are no part of it
  int64_t min_tokens = 0;         // as many tokens are none of stop_ids
  KvCacheOptions cache;           // of generate()
  int64_t context = 0;            // of generate(): as of Generation
  // Called with each token; false ends the text ("stopped").
  std::function<bool(int32_t)> on_token;
  std::vector<int32_t> before =
      {};  // of continue_text(): ids that the repeat penalty counts as well
};

struct Generated {
  std::vector<int32_t> ids;
  std::string stop;  // "eos", "length", "context" or "stopped"
};

// The tokens to follow what a sequence has seen. Each but the last is fed to it.
Generated continue_text(Generation& session, Generation::Row row, const GenerateOptions& options);
// The tokens to follow `prompt`, which has at least one and fits the model's context.
Generated generate(const LanguageModel& model, std::span<const int32_t> prompt,
                   const GenerateOptions& options);
// The same for several prompts, `batch` of them at a time; a sequence that ends makes room for the
// next. on_token is called with tokens of all. Each result is that of the prompt alone.
struct GenerateEvents {
  // With the number of the prompt; false ends its text.
  std::function<bool(size_t prompt, int32_t id)> on_token;
  // With each result as it comes; false: no more prompts are begun, whose results then are empty.
  std::function<bool(size_t prompt, const Generated&)> on_end;
};
std::vector<Generated> generate(const LanguageModel& model,
                                std::span<const std::vector<int32_t>> prompts,
                                const GenerateOptions& options, int64_t batch,
                                const GenerateEvents& events = {});

}  // namespace mullion
