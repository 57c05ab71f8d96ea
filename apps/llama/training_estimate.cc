// What a step will take, said before any weight is read.
#include <algorithm>
#include <cmath>

#include "apps/llama/training.h"

namespace mullion {

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

LlamaCost LlamaTraining::cost() const {
  const bool narrow = options_.get<std::string>("model.dtype") == "bf16";
  return llama_cost(config_, {.lora = lora_,
                              .frozen_type = narrow ? DType::bf16 : DType::f32,
                              .recompute = recompute(),
                              .pattern = pattern_,
                              .context = context_,
                              .pass_tokens = pass_tokens(),
                              .rows = batch_ * accumulate_,
                              .row_tokens = data_->mean_length()});
}

JsonObject LlamaTraining::estimate() const {
  JsonObject facts = step_estimate();
  data_->add_facts(facts);
  return facts;
}

JsonObject LlamaTraining::step_estimate() const {
  const LlamaCost c = cost();
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
