// The architecture from the checkpoint, the head where the classes agree; what differs is said.
#include "apps/tic/initial_checkpoint.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>

#include "apps/program/log.h"
#include "apps/run/run_checkpoint.h"
#include "apps/run/run_folder.h"
#include "apps/tic/training.h"
#include "data/image_folder.h"
#include "nn/state.h"
#include "tensor/io/safetensors.h"

namespace mullion {

namespace {
constexpr char kHead[] = "head.";
}

std::filesystem::path InitialCheckpoint::weights() const { return tic_weights(folder, averaged); }

std::vector<int64_t> InitialCheckpoint::rows_of_head(
    const std::vector<std::string>& classes) const {
  const std::vector<std::string>& before = description.classes;
  if (!std::is_permutation(before.begin(), before.end(), classes.begin(), classes.end())) return {};
  std::vector<int64_t> rows;
  for (const std::string& name : classes)
    rows.push_back(std::find(before.begin(), before.end(), name) - before.begin());
  return rows;
}

void InitialCheckpoint::load(Tic& model, const std::vector<std::string>& classes) const {
  require_whole(folder, {weights().filename().string()});
  const auto source = open_safetensors(weights());
  std::vector<NamedParameter> taken = named_parameters(model);
  const std::vector<int64_t> rows = rows_of_head(classes);
  std::vector<std::pair<Tensor, Tensor>> heads;  // as it is read, and the model's
  for (NamedParameter& p : taken) {
    if (!p.name.starts_with(kHead)) continue;
    const Tensor own = p.value;
    // Others are read and dropped, so that a file is checked as a whole.
    p.value =
        Tensor::empty(rows.empty() ? Shape(std::span(source->at(p.name).shape)) : own.shape());
    if (!rows.empty()) heads.emplace_back(p.value, own);
  }
  load_tensors(*source, taken);
  for (const auto& [read, own] : heads)
    for (int64_t to = 0; to < own.shape()[0]; ++to) {
      const int64_t from = rows[static_cast<size_t>(to)];
      raw::copy_into(raw::slice(read, 0, from, from + 1), raw::slice(own, 0, to, to + 1));
    }
}

void InitialCheckpoint::tell(const TicDescription& now, bool resumes) const {
  const std::vector<std::string>& before = description.classes;
  if (of_run) return log_info("the checkpoint that the run began from is gone; its own go on");
  log_info("starts from the ", averaged ? "averaged weights of " : "weights of ", folder.string(),
           " (", description.config.name(), ", ", before.size(),
           " classes); the optimizer starts anew",
           resumes ? "; where the run has a checkpoint of its own, that goes on" : "");
  if (now.classes != before) {
    const bool same = !rows_of_head(now.classes).empty();
    log_info("its ", before.size(), " classes, ", listing(before), ", are ",
             same ? "in another order than " : "not those of ", "the data, ", now.classes.size(),
             ": ", listing(now.classes), "; the head is ",
             same ? "put into their order" : "new, with random weights");
  }
  for (const std::string& difference : differences(description, now))
    log_warning("--initial-checkpoint ", folder.string(), ": trained otherwise: ", difference);
}

void require_start_of_preset(const Options& options) {
  const std::vector<std::string> given = options.given();
  const bool finetunes = std::any_of(given.begin(), given.end(), [&](const std::string& key) {
    return options.source(key) == "preset finetune";
  });
  if (finetunes && !options.has("model.initial_checkpoint"))
    throw Error("--preset finetune: goes on from a trained model, and none is given", Fault::usage,
                "--initial-checkpoint RUN");
}

namespace {
// The checkpoint that --resume goes on from, as far as its manifest says; "": there is none.
std::filesystem::path resumed_checkpoint(const Options& options) {
  if (options.get<std::string>("save.resume") == "no") return "";
  const RunChoice choice = choose_run(options, "");
  if (!choice.checkpoint.empty()) return choice.checkpoint;
  const auto newest = newest_manifest(choice.folder);
  return newest ? newest->folder : std::filesystem::path();
}
}  // namespace

std::optional<InitialCheckpoint> initial_checkpoint(const Options& options) {
  if (!options.has("model.initial_checkpoint")) return std::nullopt;
  const auto given = options.get<std::string>("model.initial_checkpoint");
  if (!std::filesystem::exists(given))
    if (const auto own = resumed_checkpoint(options); !own.empty())
      return InitialCheckpoint{own, read_tic_config(own), false, true};
  const auto folder = tic_folder(given);
  InitialCheckpoint start{folder, read_tic_config(folder), options.get<bool>("model.initial_ema")};
  start.weights();  // is there
  return start;
}

TicConfig training_config(Options& o, int64_t num_classes) {
  const auto start = initial_checkpoint(o);
  const int64_t side = image_size(o);
  if (!start) return tic_config_of(o, num_classes, nullptr, side);
  const TicConfig c = tic_config_of(o, num_classes, &start->description.config, side);
  const auto set = [&](const char* key, OptionValue value) {
    if (o.is_default(key)) o.set(key, std::move(value), "derived");
  };
  const nlohmann::json args = tic_model_args(c);
  const std::vector<std::string>& presets = tic_presets();
  if (std::find(presets.begin(), presets.end(), c.preset) != presets.end())
    set("model.name", c.preset);
  set("model.dim", c.dim);
  set("model.depths", c.depths);
  set("model.heads", c.heads);
  set("model.mlp_ratio", c.mlp_ratio);
  set("model.patch", c.patch);
  set("model.pool", to_name(c.pool));
  set("model.mlp_dwconv", c.mlp_dwconv);
  if (c.is_global()) {
    set("model.block", to_name(c.block));
    return c;
  }
  if (c.kernel_h == c.kernel_w) set("model.kernel", c.kernel_h);
  set("model.dilation", c.dilation);
  for (const char* name : {"variant", "border", "shift"})
    set((std::string("model.") + name).c_str(), args.at(name).get<std::string>());
  set("model.shift_size", c.shift_size);
  return c;
}

}  // namespace mullion
