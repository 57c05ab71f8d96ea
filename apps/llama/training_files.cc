// What a training has of the LLaMA itself: its cost and its weights' sizes, the adapter it starts
// from, and what its checkpoints hold.
#include "apps/llama/adapter_card.h"
#include "apps/llama/companions.h"
#include "apps/llama/model_options.h"
#include "apps/llama/training.h"
#include "apps/program/log.h"
#include "apps/run/ranks.h"
#include "models/llama/checkpoint_names.h"
#include "nn/state.h"
#include "tensor/io/file.h"
#include "tensor/io/safetensors.h"

namespace mullion {

namespace fs = std::filesystem;

LlamaCost LlamaTraining::cost() const {
  return llama_cost(config_, {.lora = lora_,
                              .frozen_type = held_.matrix_dtype,
                              .stored = held_.as_stored ? base_weights_.get() : nullptr,
                              .recompute = recompute(),
                              .pattern = pattern_,
                              .context = context_,
                              .pass_tokens = pass_tokens(),
                              .rows = batch_ * accumulate_,
                              .row_tokens = data_->mean_length(),
                              .device = device_.type});
}

// Weights as the model will have them (models/llama/load.h).
RankedTraining LlamaTraining::ranked() const {
  WeightSizes sizes(static_cast<size_t>(config_.num_hidden_layers), device_.type);
  const auto width = [&](const std::string& name) {
    const bool narrow = held_.as_stored && base_weights_->at(name).type == StoredType::bf16;
    return size_of(narrow ? DType::bf16 : held_.matrix_dtype);
  };
  for (const auto& [name, shape] : llama_tensors(config_)) {
    constexpr std::string_view kLayers = "model.layers.";
    const size_t block = name.starts_with(kLayers)
                             ? static_cast<size_t>(std::atoi(name.c_str() + kLayers.size()))
                             : sizes.blocks();
    const bool matrix = shape.size() == 2, embedding = name.find("embed") != std::string::npos;
    const int64_t elements = matrix ? shape[0] * shape[1] : shape[0];
    const bool trained =
        !lora_ || (embedding && lora_->train_embedding) || (!matrix && lora_->train_norms);
    sizes.add(block, elements, trained ? 0 : matrix ? width(name) : size_of(DType::f32));
    if (!lora_) continue;
    if (embedding && trained && config_.tie_word_embeddings)
      sizes.add(block, elements, width(name));  // the head that was tied
    for (const std::string& target : lora_->targets)
      if (name.ends_with("." + target + ".weight"))
        for (const int64_t side : {shape[1], shape[0]}) sizes.add(block, lora_->rank * side, 0);
  }
  const bool again = recompute() == Recompute::block;
  const double keys = context_ranks_.sent_bytes(pattern_, config_, context_, compute_type(), again);
  return {.step = shared_step(),
          .weights = std::move(sizes),
          .exchanged_a_pass = keys * static_cast<double>(config_.num_hidden_layers * batch_)};
}

void LlamaTraining::start_from_adapter() {
  const std::vector<std::string> kept = load_adapter_values(*model_, initial_adapter_, true);
  log_info("start      pairs of ", initial_adapter_.string());
  if (!kept.empty())
    log_info("start      ", kept.size(),
             " whole parameters are not in it and start from the base: ", kept.front(),
             kept.size() > 1 ? ", ..." : "");
}

std::string LlamaTraining::adapter_base_name() const {
  return options_.has("lora.base_name") ? options_.get<std::string>("lora.base_name") : base_name_;
}

void LlamaTraining::tell_result(const fs::path& run) const {
  if (!rope_lines_.empty())
    log_info("PEFT opens the adapter without its rope scaling (", describe_rope(config_),
             "), and does not warn; ", (run / "last/adapter/README.md").string(),
             " has the lines that set it:\n", rope_lines_);
}

void LlamaTraining::write_weights(CheckpointWriter& writer) {
  if (!lora_) {
    writer.add_folder("model", [&](const fs::path& folder) {
      save_llama(folder, *model_);
      write_companions(tokenizer_path_, folder);
    });
    return;
  }
  LongContextNote note;
  note.rope_scaling = config_.rope_scaling;
  note.max_position_embeddings = config_.max_position_embeddings;
  note.attention_preset = options_.get<std::string>("attention.kind");
  note.group = pattern_.group;
  note.sinks = pattern_.sinks;
  note.tokenizer_sha256 = tokenizer_hash_;
  note.base_sha256 = base_fingerprint_;
  note.base_path = fs::absolute(tokenizer_path_).lexically_normal().string();
  note.chat_template = data_->chat_template();
  note.trained = {"lora"};
  if (lora_->train_embedding) note.trained.emplace_back("embed");
  if (lora_->train_norms) note.trained.emplace_back("norm");
  writer.add_folder("adapter", [&](const fs::path& folder) {
    save_adapter(folder, *model_, *lora_, adapter_base_name());
    write_longctx(folder, note);
    write_whole_file(folder / "README.md", adapter_card(config_, adapter_base_name(), rope_lines_));
  });
}

TrainingState LlamaTraining::state() {
  TrainingState state;
  state.non_finite = update_->count_nonfinite();
  state.write = [this](CheckpointWriter& writer) {
    write_weights(writer);
    if (full_) full_->let_go();
    // Order and random numbers are functions of the seed and the step.
    writer.add_files([this](const fs::path& folder) { return update_->save(folder); });
  };
  if (update_->sharded())
    state.write_part = [this](const fs::path& folder) {
      auto names = update_->save_part(folder);
      if (full_) full_->collect();
      return names;
    };
  return state;
}

void LlamaTraining::restore(const CheckpointInfo& checkpoint) {
  if (has_ranks() && !ranks()) return;
  const auto load_adapter = [&] { load_adapter_values(*model_, checkpoint.path("adapter")); };
  if (lora_) {
    full_ ? full_->refill(load_adapter) : load_adapter();
  } else {
    const auto source = open_safetensors(checkpoint.path("model"));
    full_ ? full_->refill(*source) : load_tensors(*source, named_parameters(*model_));
  }
  update_->load(checkpoint.folder);
}

}  // namespace mullion
