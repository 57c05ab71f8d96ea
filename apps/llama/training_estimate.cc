// What a step will take, from the configuration alone: no weight is read.
#include <algorithm>
#include <cmath>

#include "apps/llama/training.h"
#include "models/llama/checkpoint_names.h"

namespace mullion {

namespace {

int64_t elements(const LlamaConfig& config, bool (*counted)(const std::string&)) {
  int64_t count = 0;
  for (const auto& [name, shape] : llama_tensors(config)) {
    int64_t size = 1;
    for (const int64_t n : shape) size *= n;
    if (counted(name)) count += size;
  }
  return count;
}

// The factors of all pairs, from the shapes of the projections.
int64_t lora_elements(const LlamaConfig& config, const LoraOptions& lora) {
  int64_t count = 0;
  for (const auto& [name, shape] : llama_tensors(config))
    for (const std::string& target : lora.targets)
      if (name.ends_with("." + target + ".weight")) count += lora.rank * (shape[0] + shape[1]);
  return count;
}

}  // namespace

Recompute LlamaTraining::recompute() const {
  constexpr int64_t kLongPass = 4096;  // tokens from which memory is worth a tenth of the time
  if (options_.get<bool>("model.grad_checkpointing")) return Recompute::block;
  const std::string mlp = options_.get<std::string>("model.recompute_mlp");
  const bool on = mlp == "on" || (mlp == "auto" && pass_tokens() >= kLongPass);
  return on ? Recompute::mlp : Recompute::none;
}

// The most tokens of one pass.
int64_t LlamaTraining::pass_tokens() const {
  return batch_ * std::min(context_, (data_->longest() + 63) / 64 * 64);
}

LlamaTraining::Cost LlamaTraining::cost() const {
  const int64_t all = elements(config_, [](const std::string&) { return true; });
  const int64_t embed =
      elements(config_, [](const std::string& n) { return n.find("embed") != std::string::npos; });
  const int64_t norms =
      elements(config_, [](const std::string& n) { return n.find("norm") != std::string::npos; });
  int64_t trained = all, pairs = 0;
  if (lora_) {
    pairs = lora_elements(config_, *lora_);
    trained = pairs + (lora_->train_embedding ? embed : 0) + (lora_->train_norms ? norms : 0);
  }
  const bool narrow = options_.get<std::string>("model.dtype") == "bf16";
  const auto frozen_bytes = static_cast<double>(all + pairs - trained) * (narrow ? 2 : 4);
  // Kept for the backward pass of a block, in floats a token: the inputs of the norms and of the
  // projections with a pair, q, k, v and o, and three widths of the MLP; less what is recomputed,
  // but for one block at a time.
  const LlamaConfig& c = config_;
  const int64_t mlp = 3 * c.intermediate_size;
  const int64_t attention =
      3 * c.hidden_size + 2 * (c.num_attention_heads + c.num_key_value_heads) * c.head_dim;
  const bool again = recompute() == Recompute::block, mlp_again = recompute() == Recompute::mlp;
  const int64_t layers = c.num_hidden_layers, layers_again = mlp_again ? layers - layers / 3 : 0;
  const int64_t kept = again ? c.hidden_size : attention + mlp - (mlp_again ? c.hidden_size : 0);
  const int64_t floats = layers * kept - layers_again * mlp + attention + 2 * mlp;
  const auto pass = static_cast<double>(pass_tokens());
  const double bytes = frozen_bytes + 16.0 * static_cast<double>(trained) +
                       4.0 * pass * static_cast<double>(floats) +
                       8.0 * 256 * static_cast<double>(c.vocab_size);
  // Products: 2 a weight forward, 2 for the inputs' gradients, 2 for those of trained weights; 4
  // an attention pair and channel forward, 8 backward (and 4 again, from the log-sum-exp).
  const auto weights = static_cast<double>(all - (c.tie_word_embeddings ? 0 : embed));
  const auto gate_and_up =
      static_cast<double>(layers_again * 2 * c.intermediate_size * c.hidden_size);
  const double length = data_->mean_length();
  const double attended = length * (length + 1) / 2 * visible_fraction(pattern_, context_);
  const double heads = static_cast<double>(c.num_attention_heads * c.head_dim);
  const double per_row =
      (4 * weights + 2 * static_cast<double>(lora_ ? pairs * 2 : trained) +
       (again ? 2 * weights : 2 * gate_and_up)) *
          length +
      static_cast<double>(c.num_hidden_layers) * heads * attended * (again ? 20 : 16);
  return {all + pairs, trained, bytes, per_row * static_cast<double>(batch_ * accumulate_)};
}

JsonObject LlamaTraining::estimate() const {
  JsonObject facts = step_estimate();
  data_->add_facts(facts);
  return facts;
}

JsonObject LlamaTraining::step_estimate() const {
  const Cost c = cost();
  return JsonObject()
      .set("parameters", c.parameters)
      .set("trainable", c.trained)
      .set("visible_fraction", visible_fraction(pattern_, context_))
      .set("tokens_a_step",
           std::llround(static_cast<double>(data_->rows_a_step()) * data_->mean_length()))
      .set("memory_gib", c.bytes / 0x1p30)
      .set("tflop_a_step", c.operations / 1e12);
}

}  // namespace mullion
