// tool_tic bench: images a second and memory by size and batch.
#include <algorithm>
#include <cstdio>
#include <optional>

#include "apps/options/amp.h"
#include "apps/options/device.h"
#include "apps/tic/model_choice.h"
#include "apps/tic/step_cost.h"
#include "apps/tic/tool_verbs.h"
#include "autograd/node.h"

namespace mullion {
namespace {

OptionTable bench_table() {
  OptionTable table("tool_tic bench", "Images a second and memory of a model, by size and batch.");
  add_model_choice(table);
  table
      .add("data.img_size", "--img-size", std::vector<int>{},
           "sides, pixels (default: the model's)")
      .range(1, kMostImageSide);
  table.add("data.batch_size", "-b,--batch-size", std::vector<int64_t>{1}, "images a step")
      .at_least(1);
  table
      .add("bench.mode", "--mode", std::vector<std::string>{"infer", "train"},
           "infer: forward; train: forward and backward, without the optimizer's update")
      .one_of({"infer", "train"});
  table.add("bench.repeats", "--repeats", 3, "measured steps, whose median counts").range(1, 1000);
  add_amp_option(table);
  table.add_common();
  return table;
}

// After one that pays for what is kept.
StepCost median_cost(const Tic& model, const SampleShape& shape, int64_t images, int repeats) {
  step_cost(model, shape, images);
  std::vector<StepCost> costs;
  for (int i = 0; i < repeats; ++i) costs.push_back(step_cost(model, shape, images));
  std::nth_element(costs.begin(), costs.begin() + repeats / 2, costs.end(),
                   [](const StepCost& a, const StepCost& b) { return a.seconds < b.seconds; });
  return costs[static_cast<size_t>(repeats / 2)];
}

Outcome bench(const Options& o) {
  auto sizes = o.get<std::vector<int>>("data.img_size");
  LoadedTic loaded = chosen_model(o, sizes.empty() ? 0 : sizes[0], device_of(o));
  Tic& model = *loaded.model;
  const TicConfig& config = model.config();
  model.set_compute_type(apply_amp(o, model));
  if (sizes.empty()) sizes = {loaded.description.img_size};
  const auto parameters = parameter_count(named_parameters(model));
  print_text(o, concat(config.title(), ", ", static_cast<double>(parameters) / 1e6,
                       " M parameters\nmode    size   batch   images/s       ms   MiB a step   "
                       "GMACs an image\n"));
  std::vector<JsonObject> results;
  for (const std::string& mode : o.get<std::vector<std::string>>("bench.mode")) {
    set_trainable(model, [&](const std::string&) { return mode == "train"; });
    std::optional<NoGrad> no_grad;
    if (mode == "infer") no_grad.emplace();
    for (const int size : sizes)
      for (const int64_t batch : o.get<std::vector<int64_t>>("data.batch_size")) {
        const StepCost cost = median_cost(model, {size, size}, batch, o.get<int>("bench.repeats"));
        const int64_t macs = tic_macs(config, size, size);
        const double rate = static_cast<double>(batch) / cost.seconds;
        char line[128];
        std::snprintf(line, sizeof line, "%-6s %5d %7lld %10.2f %8.1f %12.2f %16.3f\n",
                      mode.c_str(), size, static_cast<long long>(batch), rate, 1e3 * cost.seconds,
                      cost.bytes / 0x1p20, static_cast<double>(macs) / 1e9);
        print_text(o, line);
        results.push_back(JsonObject()
                              .set("mode", mode)
                              .set("img_size", size)
                              .set("batch_size", batch)
                              .set("img_s", rate)
                              .set("step_s", cost.seconds)
                              .set("mib", cost.bytes / 0x1p20)
                              .set("gmacs", static_cast<double>(macs) / 1e9));
      }
  }
  print_text(o, "MiB a step: the most beyond weights and their gradients.\n");
  return JsonObject().set("model", config.name()).set("params", parameters).set("results", results);
}

}  // namespace

Verb bench_verb() { return {bench_table(), bench}; }

}  // namespace mullion
