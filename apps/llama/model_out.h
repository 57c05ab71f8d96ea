// A model on its way into other people's tools: a base as it is stored, or one with an adapter
// merged into it, together with the checks that the two belong together.
#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "apps/options/options.h"
#include "models/llama/load.h"

namespace mullion {

// --model --adapter --rope-scaling --rope-factor --force
void add_model_out_options(OptionTable& table);

struct ModelOut {
  std::filesystem::path base, adapter;  // adapter: "" where there is none
  LlamaCheckpoint checkpoint;           // of the base
  LlamaConfig config;                   // of the result: rope as trained, head tied or not
  std::unique_ptr<Llama> model;         // base and adapter, on the CPU; null without an adapter
  std::unique_ptr<TensorSource> merged;
  const TensorSource& weights() const { return merged ? *merged : *checkpoint.weights; }
};

// Opens what the options name. Matrices that the base stores in BF16 are held in it, all others in
// f32: the sums are of f32 either way. Error(usage) where the adapter's longctx.json speaks of
// other weights or another tokenizer than the base's, unless --force.
ModelOut open_model_out(const Options& options);

// What a check of a written model compares: the logits of 8 fixed rows of 32 tokens.
std::vector<float> probe_logits(const Llama& model);
// Those of the model now at `path`.
std::vector<float> probe_logits_at(const std::filesystem::path& path);

struct LogitDifference {
  double largest = 0, scale = 0;  // |a - b|; |a|
};
LogitDifference compare_logits(const std::vector<float>& a, const std::vector<float>& b);
// Above this share of the largest logit the written model is not the one that was read: the weights
// of an f32 model are rounded once more in sums, those of f16 and bf16 to 11 and 8 bits.
double logit_tolerance(DType dtype);

}  // namespace mullion
