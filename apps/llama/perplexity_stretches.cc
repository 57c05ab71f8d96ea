// Perplexity by stretches that overlap: transformers' sliding window and lm-eval's rolling one.
#include <algorithm>
#include <utility>

#include "apps/llama/perplexity.h"
#include "apps/llama/perplexity_sums.h"
#include "autograd/node.h"
#include "data/text_rows.h"

namespace mullion {

std::vector<ScoredStretch> sliding_stretches(int64_t length, int64_t context, int64_t stride) {
  CHECK_AS(Fault::usage, context >= 2 && stride >= 1 && stride <= context,
           "perplexity: a stride of ", stride, " in a context of ", context);
  CHECK_AS(Fault::usage, length >= 2, "perplexity: ", length, " tokens are too few");
  std::vector<ScoredStretch> stretches;
  int64_t scored_to = 1;
  for (int64_t begin = 0; begin < length; begin += stride) {
    const int64_t end = std::min(begin + context, length);
    stretches.push_back({begin, end, end - scored_to});
    scored_to = end;
    if (end == length) break;
  }
  return stretches;
}

std::vector<ScoredStretch> rolling_stretches(int64_t length, int64_t context) {
  CHECK_AS(Fault::usage, context >= 1, "perplexity: a context of ", context);
  std::vector<ScoredStretch> stretches;
  for (int64_t done = 1; done < length;) {
    const int64_t scored = std::min(context, length - done);
    done += scored;
    stretches.push_back({std::max<int64_t>(0, done - context - 1), done, scored});
  }
  return stretches;
}

namespace {
// Its ids and, of those that are scored, the targets, behind those that are there.
void read_stretch(const ScoredStretch& s, const ReadIds& read, const LanguageModel& model,
                  std::vector<int64_t>& ids, std::vector<int64_t>& targets) {
  const int64_t T = s.end - s.begin - 1;
  std::vector<int32_t> row(static_cast<size_t>(T + 1));
  read(s.begin, row);
  for (int64_t t = 0; t <= T; ++t) {
    const int32_t id = row[static_cast<size_t>(t)];
    CHECK_AS(Fault::bad_file, id >= 0 && id < model.vocabulary(), "token ", id,
             " is outside the model's vocabulary of ", model.vocabulary());
    if (t < T) ids.push_back(id);
    if (t > 0) targets.push_back(t > T - s.scored ? id : kNoTarget);
  }
}
}  // namespace

Perplexity stretch_perplexity(const LanguageModel& model, std::span<const ScoredStretch> stretches,
                              const ReadIds& read, int64_t batch,
                              const std::function<bool(int64_t, double)>& progress) {
  const NoGrad no_grad;
  PerplexitySums sums;
  bool complete = true;
  for (size_t begin = 0; begin < stretches.size();) {
    const ScoredStretch& first = stretches[begin];
    const int64_t T = first.end - first.begin - 1;
    const auto is_like_first = [&](const ScoredStretch& s) {
      return s.end - s.begin - 1 == T && s.scored == first.scored;
    };
    size_t end = begin;
    while (end < stretches.size() && static_cast<int64_t>(end - begin) < batch &&
           is_like_first(stretches[end]))
      ++end;
    const size_t start = std::exchange(begin, end);
    if (sums.takes_next()) {
      std::vector<int64_t> ids, targets;
      for (size_t i = start; i < end; ++i) read_stretch(stretches[i], read, model, ids, targets);
      const auto rows = static_cast<int64_t>(end - start);
      sums.add(model.loss(Tensor::from(ids, {rows, T}), Tensor::from(targets, {rows, T}), 1).item(),
               rows * first.scored, rows);
    }
    const bool last = end == stretches.size();
    if (!sums.all_go_on(progress, static_cast<int64_t>(end), last)) {
      complete = last;
      break;
    }
  }
  return sums.total(complete);
}

}  // namespace mullion
