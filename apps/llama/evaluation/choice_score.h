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
  // `few_shots`: the text that the contexts begin with; a full cache keeps it between questions.
  ChoiceScorer(const LanguageModel& model, const Tokenizer& tokenizer, const KvCacheOptions& cache,
               std::string few_shots);
  // Of several questions at a time; the results do not depend on which.
  std::vector<ChoiceScores> operator()(std::span<const ChoiceQuestion> questions);
  // ln p of a choice without any question.
  double alone(const std::string& choice);
  int64_t peak_bytes() const { return peak_bytes_; }

 private:
  std::vector<double> one_pass(const ScoredText& text);
  ChoiceScores full(const std::vector<ScoredText>& texts);

  const LanguageModel& model_;
  const Tokenizer& tokenizer_;
  KvCacheOptions cache_;
  std::string few_shots_;
  Generation session_;
  std::optional<Generation::Row> shared_;  // full: what the last question began with
  std::vector<int32_t> shared_ids_;
  int64_t peak_bytes_ = 0;
};

}  // namespace mullion
