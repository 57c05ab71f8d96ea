// Groups of neighbouring ranks, checks of what they can divide, and what they say of themselves.
#include "apps/llama/context_ranks.h"

#include <algorithm>

#include "apps/run/ranks.h"
#include "apps/run/training_plan.h"
#include "tensor/check.h"

namespace mullion {

void add_context_parallel_option(OptionTable& table) {
  table
      .add("train.context_parallel", "--context-parallel", 1,
           "ranks that share a row, each with a part of its tokens")
      .at_least(1)
      .free_on_resume();
}

ContextRanks::ContextRanks(const Options& options)
    : size_(options.get<int64_t>("train.context_parallel")) {
  if (size_ == 1) return;
  if (rank_count() % size_ != 0)
    throw Error(concat("--context-parallel ", size_, ": ", rank_count(),
                       rank_count() == 1 ? " rank is" : " ranks are", " no multiple of it"),
                Fault::usage,
                options.dry_run && !has_ranks() ? concat("--ranks ", size_) : std::string());
  if (ranks()) parallel_ = std::make_shared<ContextParallel>(ranks()->split(group()));
}

int64_t ContextRanks::group() const { return rank() / size_; }
int64_t ContextRanks::groups() const { return std::max<int64_t>(1, rank_count() / size_); }
bool ContextRanks::speaks() const { return rank() % size_ == 0; }

void ContextRanks::check(const AttentionPattern& pattern, int64_t context) const {
  if (size_ > 1) context_layout(pattern, context, size_);
}

double ContextRanks::sent_bytes(const AttentionPattern& pattern, const LlamaConfig& config,
                                int64_t context, DType type, bool again) const {
  if (size_ == 1) return 0;
  const ContextSizes sizes{context, config.num_attention_heads, config.num_key_value_heads};
  const ContextLayout layout = context_layout(pattern, context, size_);
  int64_t most = 0;
  for (int64_t r = 0; r < size_; ++r) {
    const ContextPart part = context_part(pattern, sizes, layout, r);
    // What came goes back as gradients.
    most = std::max(most, (again ? 2 : 1) * part.sent_rows() + part.received_rows());
  }
  return static_cast<double>(key_bytes(most, config.head_dim, size_of(type)));
}

std::string ContextRanks::describe(const AttentionPattern& pattern, const LlamaConfig& config,
                                   int64_t context, DType type) const {
  const ContextSizes sizes{context, config.num_attention_heads, config.num_key_value_heads};
  const ContextLayout layout = context_layout(pattern, context, size_);
  int64_t rows = 0, tokens = 0;
  for (int64_t r = 0; r < size_; ++r) {
    const ContextPart part = context_part(pattern, sizes, layout, r);
    rows = std::max(rows, part.received_rows());
    tokens = std::max(tokens, part.own_tokens());
  }
  const auto bytes = static_cast<double>(key_bytes(rows, config.head_dim, size_of(type)));
  return concat(groups(), groups() == 1 ? " group of " : " groups of ", size_, " ranks, parts of ",
                tokens, " tokens", layout[0].size() > 1 ? " in two pieces" : "",
                "; a rank receives at most ", bytes_in_words(bytes),
                " of keys and values for a layer and row, ",
                100 * static_cast<double>(rows) / static_cast<double>(ring_rows(sizes, size_)),
                " % of ring attention's");
}

}  // namespace mullion
