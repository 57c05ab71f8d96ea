// Element counts of what each part keeps for the backward pass, times the bytes of their types.
#include "models/llama/cost.h"

#include <algorithm>

#include "models/llama/checkpoint_names.h"
#include "tensor/allocation.h"
#include "tensor/block_matrix.h"

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

// Of weights; of what is trained with gradients and two moments. Each is a block of the allocator.
double weight_bytes(const LlamaConfig& config, const LlamaStep& step) {
  const auto taken = [&](int64_t bytes) {
    return static_cast<double>(allocated_bytes(bytes, step.device));
  };
  const auto trained = [&](int64_t elements) { return 4 * taken(4 * elements); };
  const auto frozen = [&](const std::string& name, int64_t elements, bool matrix) {
    if (!step.stored || !step.lora)
      return taken(elements * (matrix ? size_of(step.frozen_type) : size_of(DType::f32)));
    const TensorEntry& entry = step.stored->at(name);
    const bool stays = matrix && (is_block_type(entry.type) || entry.type == StoredType::bf16);
    return taken(stays ? static_cast<int64_t>(entry.bytes) : 4 * elements);
  };
  double bytes = 0;
  for (const auto& [name, shape] : llama_tensors(config)) {
    const bool matrix = shape.size() == 2, embedding = name.find("embed") != std::string::npos;
    const int64_t elements = matrix ? shape[0] * shape[1] : shape[0];
    const bool is_trained =
        !step.lora || (embedding ? step.lora->train_embedding : !matrix && step.lora->train_norms);
    bytes += is_trained ? trained(elements) : frozen(name, elements, matrix);
    // A head that was tied to an embedding that is trained stays what it was, frozen.
    if (step.lora && embedding && is_trained && config.tie_word_embeddings)
      bytes += frozen(name, elements, matrix);
  }
  return bytes + (step.lora ? trained(lora_elements(config, *step.lora)) : 0);
}

constexpr double kHeadRows = LanguageModel::kLossRows;

// Of Recompute::mlp (models/llama/recompute.h).
int64_t layers_without_mlp(const LlamaConfig& c) {
  return c.num_hidden_layers - c.num_hidden_layers / 3;
}

// What a pass needs beside the parameters, in bytes. For the backward pass, in floats a token, a
// block keeps: its input and that of the second norm; q, k, v and o; gate and up; and of the norms
// and of the product of gate and up those that go into a projection with a gradient of its own.
// What is recomputed exists for one block at a time. Then there are the logits with the head's
// input and its gradient, or the gradients within an MLP, whichever is more.
double pass_bytes(const LlamaConfig& c, const LlamaStep& step) {
  const auto trains = [&](std::initializer_list<std::string> names) {
    return !step.lora || std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      const auto& targets = step.lora->targets;
      return std::find(targets.begin(), targets.end(), name) != targets.end();
    });
  };
  const int64_t layers = c.num_hidden_layers, C = c.hidden_size, inner = c.intermediate_size;
  const bool mlp_again = step.recompute == Recompute::mlp;
  const bool norm_again = mlp_again && step.lora;
  const int64_t norm = trains({"q_proj", "k_proj", "v_proj"}) && !norm_again ? C : 0;
  const int64_t attention =
      2 * C + norm + 2 * (c.num_attention_heads + c.num_key_value_heads) * c.head_dim;
  const int64_t inside = 2 * inner + (trains({"gate_proj", "up_proj"}) ? C : 0);
  const int64_t product = trains({"down_proj"}) ? inner : 0;
  const int64_t block = attention + inside + product;
  const int64_t kept = step.recompute == Recompute::block
                           ? layers * C + block
                           : layers * block - (mlp_again ? layers_without_mlp(c) * inside : 0);
  const double token = 4.0 * static_cast<double>(step.pass_tokens);
  const double rows = std::min(kHeadRows, static_cast<double>(step.pass_tokens));
  const double head =
      4 * rows * static_cast<double>(c.vocab_size) + token * static_cast<double>(3 * C);
  const double gradients = token * static_cast<double>(3 * inner - product + 2 * C);
  return token * static_cast<double>(kept) + std::max(head, gradients);
}

}  // namespace

LlamaCost llama_cost(const LlamaConfig& c, const LlamaStep& step) {
  const int64_t all = elements(c, [](const std::string&) { return true; });
  const int64_t embed =
      elements(c, [](const std::string& n) { return n.find("embed") != std::string::npos; });
  const int64_t norms =
      elements(c, [](const std::string& n) { return n.find("norm") != std::string::npos; });
  int64_t trained = all, pairs = 0;
  if (step.lora) {
    pairs = lora_elements(c, *step.lora);
    trained =
        pairs + (step.lora->train_embedding ? embed : 0) + (step.lora->train_norms ? norms : 0);
  }
  const double pass = pass_bytes(c, step);
  const bool again = step.recompute == Recompute::block;
  const int64_t layers_again = step.recompute == Recompute::mlp ? layers_without_mlp(c) : 0;
  // Products: 2 a weight forward, 2 for the inputs' gradients, 2 for those of trained weights; 4
  // an attention pair and channel forward, 8 backward (and 4 again, from the log-sum-exp).
  const auto weights = static_cast<double>(all - (c.tie_word_embeddings ? 0 : embed));
  const auto gate_and_up =
      static_cast<double>(layers_again * 2 * c.intermediate_size * c.hidden_size);
  const double length = step.row_tokens;
  const double attended = length * (length + 1) / 2 * visible_fraction(step.pattern, step.context);
  const double heads = static_cast<double>(c.num_attention_heads * c.head_dim);
  const double per_row =
      (4 * weights + 2 * static_cast<double>(step.lora ? pairs * 2 : trained) +
       (again ? 2 * weights : 2 * gate_and_up)) *
          length +
      static_cast<double>(c.num_hidden_layers) * heads * attended * (again ? 20 : 16);
  return {all + pairs, trained, weight_bytes(c, step) + pass,
          per_row * static_cast<double>(step.rows), pass};
}

}  // namespace mullion
