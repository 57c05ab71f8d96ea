// Batches of windows that the ranks take in turn (apps/run/ranks.h), and their sum in the order of
// the batches, whoever scored them: the same figure for any number of ranks.
#pragma once
#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "apps/llama/perplexity.h"
#include "apps/run/ranks.h"

namespace mullion {

class PerplexitySums {
 public:
  // Whether the next batch is this rank's.
  bool takes_next() { return batch_++ % rank_count() == rank(); }
  // After each batch, whosever: whether all go on. The ranks ask each other when each has had its
  // turn, so that a signal to one, or the end of one, is known to all a batch later. `progress` as
  // perplexity() has it; `done`: windows up to and with this batch, `last`: of all.
  bool all_go_on(const std::function<bool(int64_t, double)>& progress, int64_t done, bool last) {
    if (!last && batch_ % rank_count() != 0) return true;
    const bool mine = !progress || progress(done, mean());
    return !any_rank(!mine);
  }
  void add(double loss, int64_t tokens, int64_t windows) {
    mine_.push_back({batch_ - 1, loss, tokens, windows});
    loss_ += loss;
    tokens_ += tokens;
  }
  // Of this rank, for its progress: the mean so far.
  double mean() const { return loss_ / static_cast<double>(std::max<int64_t>(1, tokens_)); }
  // Of all ranks, each of which calls it; `complete` is the same on all.
  Perplexity total(bool complete) const {
    std::vector<Batch> all = ranks() ? items_of_ranks(mine_) : mine_;
    std::sort(all.begin(), all.end(), [](const Batch& a, const Batch& b) { return a.at < b.at; });
    Perplexity p;
    double sum = 0;
    for (const Batch& b : all) sum += b.loss, p.tokens += b.tokens, p.windows += b.windows;
    p.nll = sum / static_cast<double>(p.tokens);
    p.perplexity = std::exp(p.nll);
    p.complete = complete;
    return p;
  }

 private:
  struct Batch {
    int64_t at;
    double loss;
    int64_t tokens, windows;
  };
  std::vector<Batch> mine_;
  int64_t batch_ = 0, tokens_ = 0;
  double loss_ = 0;
};

}  // namespace mullion
