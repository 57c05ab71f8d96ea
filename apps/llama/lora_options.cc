// The options; an adapter to start from decides what they leave open and refuses what differs.
#include "apps/llama/lora_options.h"

#include <algorithm>

#include "tensor/check.h"

namespace mullion {

void add_lora_options(OptionTable& table) {
  const LoraOptions lora;
  table.add("lora.rank", "--lora-rank", lora.rank, "rank of the pairs").range(1, 65536);
  table.add("lora.alpha", "--lora-alpha", lora.alpha, "their scale is alpha / rank")
      .range(1e-6, 1e6);
  table
      .add("lora.dropout", "--lora-dropout", lora.dropout,
           "probability that the pairs do not see an element of their input, in training")
      .range(0, 0.999);
  table.add("lora.targets", "--lora-targets", lora.targets, "projections that get a pair");
  table
      .add("lora.train_also", "--train-also", std::vector<std::string>{"embed", "norm"},
           "embed, norm or both (LoRA+), or none")
      .one_of({"none", "embed", "norm"});
  table.add("lora.full", "--full", false, "train every parameter, without LoRA");
  table
      .add_optional<std::filesystem::path>("lora.initial_adapter", "--initial-adapter",
                                           "PEFT adapter or run to start from")
      .free_on_resume();
  table
      .add_optional<std::string>("lora.base_name", "--base-name",
                                 "what adapter_config.json calls the base, e.g. its id on the hub, "
                                 "by which AutoPeftModel finds it (unset: its path)")
      .free_on_resume();
  for (const char* key : {"lora.rank", "lora.alpha", "lora.dropout", "lora.targets",
                          "lora.train_also", "lora.initial_adapter", "lora.base_name"})
    table.at(key).not_with("lora.full").not_with("model.config").refused_idle();
}

LoraOptions lora_options(const Options& options) {
  LoraOptions lora;
  lora.rank = options.get<int64_t>("lora.rank");
  lora.alpha = options.get<double>("lora.alpha");
  lora.dropout = options.get<double>("lora.dropout");
  lora.targets = options.get<std::vector<std::string>>("lora.targets");
  const auto also = options.get<std::vector<std::string>>("lora.train_also");
  const auto contains = [&](const char* part) {
    return std::find(also.begin(), also.end(), part) != also.end();
  };
  CHECK_AS(Fault::usage, also.size() == 1 || !contains("none"),
           "--train-also: none, or a list without it");
  lora.train_embedding = contains("embed");
  lora.train_norms = contains("norm");
  return lora;
}

void follow_adapter(Options& options, const AdapterConfig& adapter) {
  const auto derive = [&](const char* key, const OptionValue& value) {
    if (options.is_default(key)) options.set(key, value, "derived");
  };
  derive("lora.rank", adapter.r);
  derive("lora.alpha", adapter.lora_alpha);
  derive("lora.dropout", adapter.lora_dropout);
  derive("lora.targets", adapter.target_modules);
  std::vector<std::string> also;
  if (adapter.saves("model.embed_tokens")) also.emplace_back("embed");
  if (adapter.saves("model.norm")) also.emplace_back("norm");
  if (also.empty()) also.emplace_back("none");
  derive("lora.train_also", also);
  const auto rank = options.get<int64_t>("lora.rank");
  const auto alpha = options.get<double>("lora.alpha");
  CHECK_AS(Fault::usage, rank == adapter.r, "--lora-rank ", rank, ": the initial adapter has rank ",
           adapter.r);
  CHECK_AS(Fault::usage, alpha == adapter.lora_alpha, "--lora-alpha ", alpha,
           ": the initial adapter has ", adapter.lora_alpha, ", and would count otherwise");
  CHECK_AS(Fault::usage, adapter.is_plain(), "--initial-adapter: an adapter with use_rslora, ",
           "rank_pattern, alpha_pattern, layers_to_transform, exclude_modules or "
           "ensure_weight_tying cannot be continued");
}

}  // namespace mullion
