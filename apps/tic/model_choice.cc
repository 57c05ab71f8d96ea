// The options and what they open; those of the architecture do not count beside a checkpoint.
#include "apps/tic/model_choice.h"

namespace mullion {

void add_checkpoint_options(OptionTable& table) {
  table.add_optional<std::string>("model.checkpoint", "--checkpoint", "model folder or run")
      .required();
  table.add("model.use_ema", "--use-ema", false, "the averaged weights");
}

LoadedTic checkpoint_model(const Options& o, Device device) {
  return load_tic(o.get<std::string>("model.checkpoint"), o.get<bool>("model.use_ema"), device);
}

void add_architecture_choice(OptionTable& table) {
  add_tic_architecture(table);
  const std::vector<std::string> preset_and_changes = table.keys();
  table.add_optional<std::string>("model.checkpoint", "--checkpoint",
                                  "model folder or run, instead of a preset and its changes");
  for (const std::string& key : preset_and_changes) table.at(key).not_with("model.checkpoint");
}

void add_model_choice(OptionTable& table) {
  add_architecture_choice(table);
  table.add("model.use_ema", "--use-ema", false, "the averaged weights")
      .only_with("model.checkpoint");
}

int usual_size(const TicConfig& config) { return config.preset == "tic-n" ? 32 : 224; }

LoadedTic chosen_model(const Options& o, int64_t img_size, Device device) {
  if (o.has("model.checkpoint")) return checkpoint_model(o, device);
  LoadedTic chosen;
  const TicConfig preset = tic_preset(o.get<std::string>("model.name"));
  chosen.description.config =
      tic_config_of(o, preset.num_classes, nullptr, img_size > 0 ? img_size : usual_size(preset));
  chosen.description.img_size = usual_size(preset);
  chosen.model = std::make_unique<Tic>(chosen.description.config);
  chosen.model->initialize(o.seed());
  move_to(*chosen.model, device);
  return chosen;
}

}  // namespace mullion
