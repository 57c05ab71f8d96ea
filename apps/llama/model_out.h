// A model on its way into other people's tools: a base as it is stored, or one with an adapter
// merged into it, together with the checks that the two belong together.
#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "apps/options/options.h"
#include "apps/program/json_object.h"
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
// The same of a model (or run) and an adapter ("": the model's own, or none); `force` as the
// option.
ModelOut open_model_out(const Options& options, const std::filesystem::path& model,
                        const std::filesystem::path& adapter, bool force);
// The model to compute with: m's own where an adapter is on it (m then has none), else loaded.
std::unique_ptr<Llama> loaded(ModelOut& m);

// --shard-size --verify
void add_hf_folder_options(OptionTable& table);
// Writes the model as a Hugging Face folder at --output, in a type of "auto" (the base's), "f32",
// "f16" or "bf16"; with --verify it gets its name only after its logits have been compared. Ends m.
JsonObject write_folder(const Options& options, ModelOut& m, const std::string& dtype);

// What is compared of a written model: the logits of 8 fixed rows of 32 tokens.
std::vector<float> probe_logits(const Llama& model);
// Those of a model on its way out, as it was read.
std::vector<float> probe_logits_of(const ModelOut& m);
// Those of the model now at `path`.
std::vector<float> probe_logits_at(const std::filesystem::path& path);

struct LogitDifference {
  double largest = 0, scale = 0;  // |a - b|; |a|
};
LogitDifference compare_logits(const std::vector<float>& a, const std::vector<float>& b);
// Compares a written model with what was read, and puts the figures into the result and into a
// sentence. An error where they are further apart than rounding to `dtype` explains.
std::string check_written(const std::vector<float>& before, const std::filesystem::path& written,
                          StoredType type, const std::string& shown, JsonObject& result);

}  // namespace mullion
