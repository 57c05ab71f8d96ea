#include "apps/llama/generation_options.h"

#include <algorithm>

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
  table.add("run.seed", "-s,--seed", defaults.seed, "of the random numbers");
}

SamplerOptions sampling_options(const Options& options) {
  return {options.get<double>("generate.temperature"), options.get<int64_t>("generate.top_k"),
          options.get<double>("generate.top_p"), options.get<double>("generate.min_p"),
          options.seed()};
}

std::vector<int32_t> stop_ids(const OpenedModel& model, const Tokenizer& tokenizer) {
  std::vector<int32_t> ids = tokenizer.eos_ids();
  for (const int64_t wide : model.eos_ids) {
    const auto id = static_cast<int32_t>(wide);
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  }
  return ids;
}

}  // namespace mullion
