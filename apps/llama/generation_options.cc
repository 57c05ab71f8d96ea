// The options, what they are as a Sampler's, and the ids and texts that end a text.
#include "apps/llama/generation_options.h"

#include <algorithm>
#include <random>

namespace mullion {

void add_sampling_options(OptionTable& table, const SamplerOptions& defaults) {
  table
      .add("generate.temperature", "--temp", defaults.temperature,
           "temperature; 0: the likeliest token")
      .at_least(0);
  table.add("generate.top_k", "--top-k", defaults.top_k, "keep the k likeliest; 0: all");
  table.add("generate.top_p", "--top-p", defaults.top_p, "keep the likeliest with this sum")
      .range(1e-9, 1);
  table
      .add("generate.min_p", "--min-p", defaults.min_p,
           "drop those below this part of the likeliest")
      .range(0, 1);
  table
      .add("generate.repeat_penalty", "--repeat-penalty", defaults.repeat_penalty,
           "divides what speaks for tokens that the text has already, its prompt included; 1: off")
      .range(1e-3, 1e3);
  const auto seed = static_cast<int64_t>(defaults.seed);  // kAnySeed is -1
  table
      .add("run.seed", "-s,--seed", seed,
           seed < 0 ? "of the random numbers; -1: another at each start" : "of the random numbers")
      .at_least(seed < 0 ? -1 : 0)
      .any_integer();
}

void need_temperature(OptionTable& table) {
  for (const char* key : {"generate.top_k", "generate.top_p", "generate.min_p", "run.seed"})
    table.at(key).only_with("generate.temperature");
}

SamplerOptions sampling_options(const Options& options) {
  const auto seed = options.get<int64_t>("run.seed");
  return {options.get<double>("generate.temperature"),
          options.get<int64_t>("generate.top_k"),
          options.get<double>("generate.top_p"),
          options.get<double>("generate.min_p"),
          seed < 0 ? std::random_device{}() : static_cast<uint64_t>(seed),
          options.get<double>("generate.repeat_penalty")};
}

void add_stop_option(OptionTable& table) {
  table
      .add_optional<std::vector<std::string>>(
          "generate.stop", "--stop", "a text that ends the answer and is no part of it; repeatable")
      .whole();
}
std::vector<std::string> stop_strings(const Options& options) {
  if (!options.has("generate.stop")) return {};
  return options.get<std::vector<std::string>>("generate.stop");
}

std::vector<int32_t> stop_ids(const OpenedModel& model, const Tokenizer& tokenizer) {
  std::vector<int32_t> ids = tokenizer.eos_ids();
  for (const int64_t wide : model.eos_ids) {
    const auto id = static_cast<int32_t>(wide);
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  }
  return ids;
}

std::vector<int32_t> stop_ids(const OpenedModel& model, const Tokenizer& tokenizer,
                              const ChatTemplate& chat) {
  std::vector<int32_t> ids = stop_ids(model, tokenizer);
  const std::optional<int32_t> end = chat.end_id();
  if (end && std::find(ids.begin(), ids.end(), *end) == ids.end()) ids.push_back(*end);
  return ids;
}

}  // namespace mullion
