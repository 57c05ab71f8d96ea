// The log-likelihoods of the choices of a question, as lm-eval computes them.
#pragma once
#include <memory>
#include <optional>

#include "apps/llama/evaluation/choice_format.h"
#include "data/tokenizer.h"
#include "models/llama/generate.h"

namespace mullion {

// A context and what follows it, as ids. Whitespace at the end of the context belongs to the
// continuation; the continuation's ids are those of both texts together from the length of the
// context's ids on, even where the two merge; what is too long for the model loses its beginning.
struct ScoredText {
  std::vector<int32_t> context, continuation;
  int64_t cut = 0;  // ids lost
};
ScoredText scored_text(const Tokenizer& tokenizer, const std::string& context,
                       const std::string& continuation, int64_t most_ids);

struct ChoiceScores {
  std::vector<double> sum;  // ln p of each choice
  std::vector<int64_t> tokens;
  std::vector<int64_t> cut;
};

class ChoiceScorer {
 public:
  // `few_shots`: the text that the contexts begin with, which is read once for all questions.
  ChoiceScorer(const LanguageModel& model, const Tokenizer& tokenizer, const KvCacheOptions& cache,
               std::string few_shots);
  // Of several questions at a time; the results do not depend on which.
  std::vector<ChoiceScores> operator()(std::span<const ChoiceQuestion> questions);
  // ln p of each choice of a question without the question.
  std::vector<double> alone(const std::vector<std::string>& choices) const;
  // Of the keys and values that a question's cache holds once its prompt has been read; at most so
  // far.
  int64_t cache_bytes() const { return cache_bytes_; }
  // h2o: of the first prompt, how many KV heads of each layer hold each of its tokens.
  const std::vector<std::vector<int>>& kept() const { return kept_; }

 private:
  std::vector<double> one_pass(const ScoredText& text);
  Generation::Row read(const std::vector<int32_t>& context);

  const LanguageModel& model_;
  const Tokenizer& tokenizer_;
  KvCacheOptions cache_;
  std::string few_shots_;
  std::vector<int32_t> shot_ids_;  // with which contexts begin that have lost nothing
  Generation session_;
  std::optional<Generation::Row> shared_;  // has read them
  int64_t cache_bytes_ = 0;
  std::vector<std::vector<int>> kept_;
};

}  // namespace mullion
