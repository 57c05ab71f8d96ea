// What training a LLaMA takes in memory and arithmetic, from its configuration alone.
#pragma once
#include <optional>

#include "models/llama/load.h"
#include "models/llama/recompute.h"

namespace mullion {

struct LlamaStep {
  std::optional<LoraOptions> lora = {};  // none: every parameter is trained
  DType frozen_type = DType::f32;        // of matrices
  const TensorSource* stored = nullptr;  // of whose matrices blocks and bf16 stay what they are
  Recompute recompute = Recompute::none;
  AttentionPattern pattern = {};  // for the heads of the model
  int64_t context = 0;            // that the pattern is for
  int64_t pass_tokens = 0;        // at most, of one forward and backward
  int64_t rows = 0;               // of all passes
  double row_tokens = 0;          // on average
  DeviceType device = DeviceType::cpu;
};
struct LlamaCost {
  int64_t parameters, trained;
  double bytes;  // of tensors that live at once, at the most
  double operations;
  double pass_bytes;  // of the bytes what a pass takes at its peak and gives back
};
LlamaCost llama_cost(const LlamaConfig& config, const LlamaStep& step);

}  // namespace mullion
