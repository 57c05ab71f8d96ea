// Kinds and budgets as text, checked before a model is opened; a list gives a cache for each pair.
#include "apps/llama/cache_options.h"

#include <algorithm>
#include <cmath>

#include "tensor/words.h"

namespace mullion {
namespace {

constexpr double kMostHeavy = 0.999999;  // the most recent token is always held

KvCacheOptions without_budget(const Options& options, const std::string& kind) {
  KvCacheOptions cache;
  cache.kind = kind;
  if (!cache.is_bounded()) return cache;
  if (options.has("cache.sinks")) cache.sinks = options.get<int64_t>("cache.sinks");
  if (cache.by_score()) {
    cache.heavy = options.get<double>("cache.heavy");
    if (options.get<std::string>("cache.scores") == "max") cache.scores = KvScores::max;
  }
  if (options.get<std::string>("cache.positions") == "rolled")
    cache.positions = KvPositions::rolled;
  if (options.get<std::string>("cache.mode") == "mask") cache.mode = KvMode::mask;
  return cache;
}

}  // namespace

void add_cache_options(OptionTable& table, bool several) {
  const std::string kinds =
      "what a cache keeps. " +
      joined(kv_policies(), "; ", [](const KvPolicy& p) { return p.name + ": " + p.keeps; });
  const std::vector<std::string> bounded = kv_kind_names(&KvPolicy::is_bounded),
                                 by_score = kv_kind_names(&KvPolicy::by_score);
  const std::string budget =
      "tokens a head keeps, N or P% of the prompt (also above 100%, and as many as the sinks need "
      "at least)";
  if (several) {
    table.add("cache.kind", "--kv", std::vector<std::string>{"full"}, kinds)
        .one_of(kv_kind_names());
    table.add_optional<std::vector<std::string>>("cache.budget", "--kv-budget",
                                                 budget + ", or a list");
  } else {
    table.add("cache.kind", "--kv", "full", kinds).one_of(kv_kind_names());
    table.add_optional<std::string>("cache.budget", "--kv-budget", budget);
  }
  std::string unset;
  for (const KvPolicy& p : kv_policies())
    if (p.sinks > 0) unset += concat(p.sinks, " for ", p.name, ", ");
  table
      .add_optional<int64_t>("cache.sinks", "--kv-sinks",
                             "first tokens never evicted (unset: " + unset + "else 0)")
      .at_least(0);
  table
      .add("cache.heavy", "--kv-heavy", 0.5,
           joined(by_score) + ": part of the budget kept by score")
      .range(0, kMostHeavy);
  table
      .add("cache.positions", "--kv-positions", "original",
           "original: keys keep their rotation; rolled: rotated by place in the cache, text of any "
           "length")
      .one_of({"original", "rolled"});
  table
      .add("cache.scores", "--kv-scores", "sum",
           joined(by_score) + ": over the query heads of a key head")
      .one_of({"sum", "max"});
  table
      .add("cache.mode", "--kv-mode", "drop",
           "drop: eviction; mask: the published simulation, for eval_llama choice")
      .one_of({"drop", "mask"});
  for (const char* key : {"cache.budget", "cache.sinks", "cache.positions", "cache.mode"})
    table.at(key).only_with("cache.kind", bounded).refused_idle();
  for (const char* key : {"cache.heavy", "cache.scores"})
    table.at(key).only_with("cache.kind", by_score).refused_idle();
}

void parse_kv_budget(const std::string& text, KvCacheOptions& into) {
  if (text.ends_with('%'))
    into.budget_percent = number_in<double>(text.substr(0, text.size() - 1)).value_or(0);
  else
    into.budget_tokens = number_in<int64_t>(text).value_or(0);
  CHECK_AS(
      Fault::usage,
      into.budget_tokens > 0 || (into.budget_percent > 0 && std::isfinite(into.budget_percent)),
      "--kv-budget: '", text,
      "' is neither a number of tokens above 0 nor a percentage above 0, such as 20%");
}

KvCacheOptions cache_options(const Options& options) {
  KvCacheOptions cache = without_budget(options, options.get<std::string>("cache.kind"));
  if (options.has("cache.budget")) parse_kv_budget(options.get<std::string>("cache.budget"), cache);
  validate(cache);
  CHECK_AS(Fault::usage, cache.mode == KvMode::drop,
           "--kv-mode mask: scores whole texts and generates none (eval_llama choice)");
  return cache;
}

std::vector<KvCacheOptions> cache_list(const Options& options) {
  const auto kinds = options.get<std::vector<std::string>>("cache.kind");
  CHECK_AS(Fault::usage, !kinds.empty(), "--kv: no kind of cache");
  std::vector<KvCacheOptions> list;
  for (const std::string& kind : kinds) {
    const KvCacheOptions cache = without_budget(options, kind);
    std::vector<KvCacheOptions> of_kind;
    if (!cache.is_bounded() || !options.has("cache.budget")) {
      of_kind.push_back(cache);
    } else {
      const auto budgets = options.get<std::vector<std::string>>("cache.budget");
      CHECK_AS(Fault::usage, !budgets.empty(), "--kv-budget: no budget");
      for (const auto& text : budgets) {
        of_kind.push_back(cache);
        parse_kv_budget(text, of_kind.back());
      }
    }
    for (const KvCacheOptions& one : of_kind) {
      validate(one);
      CHECK_AS(Fault::usage, std::find(list.begin(), list.end(), one) == list.end(), "--kv ", kind,
               one.is_bounded() ? concat(" --kv-budget ", kv_budget_text(one)) : "", ": twice");
      list.push_back(one);
    }
  }
  return list;
}

std::string kv_budget_text(const KvCacheOptions& cache) {
  if (!cache.is_bounded()) return "";
  return cache.budget_percent > 0 ? concat(cache.budget_percent, "%")
                                  : std::to_string(cache.budget_tokens);
}

JsonObject cache_json(const KvCacheOptions& cache) {
  JsonObject json;
  json.set("kv", cache.kind);
  if (!cache.is_bounded()) return json.set_null("kv_budget");
  json.set("kv_budget", kv_budget_text(cache));
  if (cache.sinks) json.set("kv_sinks", *cache.sinks);
  if (cache.by_score()) {
    json.set("kv_heavy", cache.heavy);
    json.set("kv_scores", cache.scores == KvScores::max ? "max" : "sum");
  }
  json.set("kv_positions", cache.positions == KvPositions::rolled ? "rolled" : "original");
  return json.set("kv_mode", cache.mode == KvMode::mask ? "mask" : "drop");
}

}  // namespace mullion
