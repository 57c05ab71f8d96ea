// --context-parallel N of train_llama: groups of N neighbouring ranks, each of which takes the same
// rows and has a part of each. The groups take rows in turn, as ranks do without it.
#pragma once
#include <memory>
#include <string>

#include "apps/options/options.h"
#include "models/llama/config.h"
#include "nn/context_parallel.h"

namespace mullion {

void add_context_parallel_option(OptionTable& table);

class ContextRanks {
 public:
  // Error(usage) where the ranks, or those that are planned for, are no multiple of N.
  explicit ContextRanks(const Options& options);

  int64_t size() const { return size_; }  // N
  // Of the groups: this rank's, and how many there are.
  int64_t group() const;
  int64_t groups() const;
  // Whether this rank speaks for its group of what all of it know.
  bool speaks() const;
  // For the model; null where rows are not divided.
  const std::shared_ptr<ContextParallel>& parallel() const { return parallel_; }

  // Error(usage) for a pattern and rows of `context` tokens that cannot be divided so.
  void check(const AttentionPattern& pattern, int64_t context) const;
  // The bytes that a rank sends at most of keys and values, and of their gradients, for a layer and
  // row of `context` tokens in elements of `type`, which the backward pass computes `again` or not.
  double sent_bytes(const AttentionPattern& pattern, const LlamaConfig& config, int64_t context,
                    DType type, bool again) const;
  // "2 groups of 4 ranks, a row is 4 parts of 2048 tokens; at most 1.02 MiB of keys and values come
  // to a rank for a layer and row, 0.4 % of ring attention's", for rows of `context` tokens in
  // elements of `type`.
  std::string describe(const AttentionPattern& pattern, const LlamaConfig& config, int64_t context,
                       DType type) const;

 private:
  int64_t size_;
  std::shared_ptr<ContextParallel> parallel_;
};

}  // namespace mullion
