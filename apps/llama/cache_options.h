// The options by which every program names a KV cache, and the caches they stand for.
#pragma once
#include <vector>

#include "apps/options/options.h"
#include "apps/program/json_object.h"
#include "nn/kv_cache.h"

namespace mullion {

// --kv --kv-budget --kv-sinks --kv-heavy --kv-positions --kv-scores --kv-mode. `several`: lists of
// kinds and budgets.
void add_cache_options(OptionTable& table, bool several = false);
// The cache of a program that generates. Error(usage) for what does not fit together, or would have
// no effect.
KvCacheOptions cache_options(const Options& options);
// With `several`: full once, each other kind with each budget.
std::vector<KvCacheOptions> cache_list(const Options& options);

// "20%" or "512": as --kv-budget takes it. Error(usage) for anything else, and for nothing.
void parse_kv_budget(const std::string& text, KvCacheOptions& into);
std::string kv_budget_text(const KvCacheOptions& cache);  // the reverse; "" for full
// {kv, kv_budget, ...}: for results and logs.
JsonObject cache_json(const KvCacheOptions& cache);

}  // namespace mullion
