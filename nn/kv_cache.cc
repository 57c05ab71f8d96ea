// Options checked and put into words, shares of a budget, and the cache of a batch over its rows'.
#include "nn/kv_cache.h"

#include <algorithm>
#include <cmath>

#include "autograd/ops.h"
#include "nn/mask_cache.h"
#include "nn/slot_cache.h"
#include "tensor/words.h"

namespace mullion {
namespace {

std::string budget_text(const KvCacheOptions& o) {
  return o.budget_percent > 0 ? concat(o.budget_percent, " %") : concat(o.budget_tokens, " tokens");
}

int64_t sinks_of(const KvCacheOptions& o) { return o.sinks.value_or(o.policy().sinks); }

int64_t held_by_score(const KvCacheOptions& o, int64_t budget) {
  // 0.29 of 100 is 29, also where the product is a last bit below.
  return static_cast<int64_t>(static_cast<double>(budget) * o.heavy * (1 + 1e-12));
}

// The fewest tokens of which the sinks leave one for the most recent; by score the sinks are among
// those that are held by score.
int64_t least_budget(const KvCacheOptions& o) {
  const int64_t sinks = sinks_of(o);
  if (!o.by_score() || sinks == 0) return sinks + 1;
  const double enough = static_cast<double>(sinks) / o.heavy;
  CHECK_AS(Fault::usage, enough <= static_cast<double>(KvCache::kOpenBlock), "--kv-sinks ", sinks,
           ": --kv ", o.kind, " holds them by score, and --kv-heavy ", o.heavy, " holds none so");
  auto budget = static_cast<int64_t>(enough);
  while (held_by_score(o, budget) < sinks) ++budget;  // the quotient is rounded
  return std::max(budget, sinks + 1);
}

KvShares split(const KvCacheOptions& o, int64_t budget) {
  const int64_t sinks = sinks_of(o);
  KvShares s{.sinks = sinks};
  if (o.by_score()) {
    const int64_t by_score = held_by_score(o, budget);
    s.heavy = by_score - sinks;
    s.recent = budget - by_score;
    CHECK_AS(Fault::usage, s.heavy >= 0, "--kv-sinks ", sinks, ": more than the ", by_score,
             " tokens that --kv ", o.kind, " holds by score, of a budget of ", budget);
  } else {
    s.recent = budget - sinks;
  }
  CHECK_AS(Fault::usage, s.recent >= 1, "--kv-sinks ", sinks, ": a budget of ", budget,
           budget == 1 ? " token" : " tokens", " leaves none for the most recent one");
  return s;
}

}  // namespace

const std::vector<KvPolicy>& kv_policies() {
  static const std::vector<KvPolicy> table = {
      // name, keeps, bounded, by score, sinks
      {"full", "every token", false, false, 0},
      {"local", "the last ones", true, false, 0},
      {"sink", "the first and the last", true, false, 4},
      {"h2o", "those attended to most and the last", true, true, 0},
  };
  return table;
}

const KvPolicy& KvCacheOptions::policy() const {
  for (const KvPolicy& policy : kv_policies())
    if (policy.name == kind) return policy;
  fail(Fault::usage, "--kv ", kind, ": not one of ", joined(kv_kind_names()));
}

std::vector<std::string> kv_kind_names(bool KvPolicy::*property) {
  std::vector<std::string> names;
  for (const KvPolicy& policy : kv_policies())
    if (!property || policy.*property) names.push_back(policy.name);
  return names;
}

void validate(const KvCacheOptions& o) {
  const bool bounded = o.is_bounded();
  CHECK_AS(Fault::usage,
           o.budget_tokens >= 0 && o.budget_percent >= 0 && std::isfinite(o.budget_percent) &&
               (o.budget_tokens == 0 || o.budget_percent == 0),
           "--kv-budget: ", o.budget_tokens, " tokens and ", o.budget_percent, " %");
  CHECK_AS(Fault::usage, o.budget_tokens <= KvCache::kOpenBlock, "--kv-budget: ", o.budget_tokens,
           " tokens, at most ", KvCache::kOpenBlock);
  const bool has_budget = o.budget_tokens > 0 || o.budget_percent > 0;
  CHECK_AS(Fault::usage, has_budget || !bounded, "--kv ", o.kind,
           ": needs a --kv-budget above 0, in tokens or as P%");
  CHECK_AS(Fault::usage, bounded || !has_budget, "--kv ", o.kind,
           " keeps every token; a --kv-budget is for ",
           joined(kv_kind_names(&KvPolicy::is_bounded)));
  CHECK_AS(Fault::usage, !o.sinks || *o.sinks >= 0, "--kv-sinks: ", o.sinks.value_or(0),
           " is negative");
  CHECK_AS(Fault::usage, bounded || !o.sinks, "--kv-sinks: --kv ", o.kind, " evicts nothing");
  CHECK_AS(Fault::usage, o.heavy >= 0 && o.heavy < 1, "--kv-heavy: ", o.heavy,
           " is not in [0, 1): the most recent token is always held");
  if (o.budget_tokens > 0 && o.mode == KvMode::drop) split(o, o.budget_tokens);
  if (o.budget_percent > 0 && o.mode == KvMode::drop) least_budget(o);
  if (o.mode == KvMode::drop) return;
  CHECK_AS(Fault::usage, o.positions == KvPositions::original,
           "--kv-positions rolled: --kv-mode mask knows original positions alone");
  CHECK_AS(Fault::usage, sinks_of(o) == 0,
           "--kv-mode mask: the published simulation protects no sinks");
  CHECK_AS(Fault::usage, o.budget_percent <= 100, "--kv-budget ", o.budget_percent,
           "%: --kv-mode mask counts of a whole text, of which 100% keep all");
  CHECK_AS(Fault::usage, o.heavy == 0.5,
           "--kv-mode mask: the published simulation has half of the budget by score");
}

KvShares kv_shares(const KvCacheOptions& o, int64_t tokens) {
  validate(o);
  CHECK(o.is_bounded() && tokens > 0, "KV cache: the shares of a budget for ", tokens, " tokens");
  int64_t budget = o.budget_tokens;
  if (budget == 0) {
    const double part = std::min(o.budget_percent / 100 * static_cast<double>(tokens),
                                 static_cast<double>(KvCache::kOpenBlock));
    // The quotient of a percentage and 100 is not exact: 29 % of 100 tokens are 29.
    budget = std::max(least_budget(o), static_cast<int64_t>(std::floor(part + 1e-9 * part)));
  }
  return split(o, budget);
}

std::string describe(const KvCacheOptions& o) {
  const std::string positions = o.positions == KvPositions::rolled ? ", rolled positions" : "";
  if (!o.is_bounded()) return o.kind + positions;
  std::string text = concat(o.kind, ", budget ", budget_text(o));
  if (o.by_score()) {
    text += concat(", ", o.heavy, " of it by score");
    if (o.scores == KvScores::max) text += " (largest of the query heads)";
  }
  if (sinks_of(o) > 0) text += concat(", ", sinks_of(o), " sinks");
  if (o.budget_percent > 0 && o.mode == KvMode::drop && least_budget(o) > 1)
    text += concat(", at least ", least_budget(o), " tokens");
  if (o.mode == KvMode::mask) return text + ", simulated by a mask that knows the whole text";
  return text + positions;
}

std::unique_ptr<KvCache> make_kv_cache(const KvCacheOptions& options, const KvCacheShape& shape) {
  validate(options);
  if (options.mode == KvMode::mask && options.is_bounded())
    return std::make_unique<MaskCache>(options, shape);
  return std::make_unique<SlotCache>(options, shape);
}

Tensor KvCacheRows::attend(int64_t layer, const Tensor& q, const Tensor& k, const Tensor& v,
                           const AttentionCall& call) {
  CHECK(q.dim(0) == std::ssize(rows_), "KV cache: ", q.dim(0), " rows for ", rows_.size(),
        " sequences");
  std::vector<Tensor> results;
  for (int64_t b = 0; b < q.dim(0); ++b) {
    const auto row = [b](const Tensor& x) { return raw::slice(x, 0, b, b + 1); };
    results.push_back(rows_[static_cast<size_t>(b)]->attend(layer, row(q), row(k), row(v), call));
  }
  return results.size() == 1 ? results[0] : concat(results, 0);
}

void KvCacheRows::begin_block(int64_t tokens) {
  for (KvCache* row : rows_) row->begin_block(tokens);
}

namespace {
template <typename F>
int64_t most(const std::vector<KvCache*>& rows, F&& of) {
  int64_t value = 0;
  for (const KvCache* row : rows) value = std::max(value, of(*row));
  return value;
}
template <typename F>
int64_t total(const std::vector<KvCache*>& rows, F&& of) {
  int64_t value = 0;
  for (const KvCache* row : rows) value += of(*row);
  return value;
}
}  // namespace

int64_t KvCacheRows::position() const {
  return most(rows_, [](const KvCache& c) { return c.position(); });
}
int64_t KvCacheRows::held() const {
  return most(rows_, [](const KvCache& c) { return c.held(); });
}
int64_t KvCacheRows::reach(int64_t tokens) const {
  return most(rows_, [tokens](const KvCache& c) { return c.reach(tokens); });
}
int64_t KvCacheRows::room(int64_t context) const {
  int64_t least = kNoEnd;
  for (const KvCache* row : rows_) least = std::min(least, row->room(context));
  return least;
}
int64_t KvCacheRows::bytes() const {
  return total(rows_, [](const KvCache& c) { return c.bytes(); });
}
int64_t KvCacheRows::peak_bytes() const {
  return total(rows_, [](const KvCache& c) { return c.peak_bytes(); });
}
std::vector<int64_t> KvCacheRows::kept(int64_t, int64_t) const {
  throw Error("KV cache: the rows of a batch hold tokens of their own");
}
std::unique_ptr<KvCache> KvCacheRows::clone() const {
  throw Error("KV cache: the rows of a batch are copied one by one");
}
void KvCacheRows::rewind(int64_t position) {
  for (KvCache* row : rows_) row->rewind(position);
}

}  // namespace mullion
