// The options by which every program names a LLaMA, and the model they stand for.
#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/options/options.h"
#include "data/tokenizer.h"
#include "models/llama/load.h"

namespace mullion {

// --model --adapter --weights --rope-scaling --rope-factor
void add_model_options(OptionTable& table);
// --rope-scaling and --rope-factor alone.
void add_rope_options(OptionTable& table);

// --weights, which says how frozen matrices are held.
void add_weights_option(OptionTable& table);
// What it asks for: auto is as stored for a quantised file of which nothing but an embedding is
// trained, else f32. `trains_all` refuses all but f32, and says what trains it.
LlamaLoadOptions held_weights(const Options& options, const TensorSource* weights,
                              const std::string& trains_all = "");
// "f32", "bf16" or "stored".
std::string held_name(const LlamaLoadOptions& held);
// The same with the types of blocks: "as stored (Q4_K 193, Q6_K 33)".
std::string describe_held(const TensorSource& weights, const LlamaLoadOptions& held);

// Position Interpolation as the two options say, for `context` tokens (0: as many as the model
// has). auto: as the model or `note` (its adapter's) says, and with `extend` as far as context
// asks. A context that then does not fit is Error(usage).
void apply_rope_options(LlamaConfig& config, const Options& options, int64_t context, bool extend,
                        const std::optional<LongContextNote>& note = {});
// "rope linear, factor 4 (8192 -> 32768 tokens)"
std::string describe_rope(const LlamaConfig& config);

struct OpenedModel {
  std::unique_ptr<LanguageModel> model;  // full attention, nothing trainable
  std::filesystem::path path;            // of the base
  std::string positions;                 // describe_rope
  std::string weights;                   // held_name
  std::vector<int64_t> eos_ids;          // of its configuration
};
// The model of --model with the adapter of --adapter, or its own.
OpenedModel open_model(const Options& options, int64_t context);

// The folder that a path stands for where it may also be a run of train_llama or one of its
// checkpoints: PATH, PATH/PART or PATH/last/PART, whichever holds `file` first; else PATH.
std::filesystem::path part_of_run(const std::filesystem::path& path, const std::string& part,
                                  const std::string& file);
// What --model stands for: a base, and the adapter on it where the path is a run of LoRA, a folder
// of PEFT or their like. The base is then where the adapter says: longctx.json, or the local path
// of adapter_config.json; Error(usage) where it is not there.
struct ModelPlace {
  std::filesystem::path base, adapter;  // adapter: "" where there is none
};
ModelPlace find_model(const std::filesystem::path& path);

// The base of --model, and the value of an option that names an adapter.
std::filesystem::path model_path(const Options& options);
std::filesystem::path adapter_path(const Options& options, const std::string& key);

// Warns where the adapter's note speaks of other weights than these.
void check_base(const std::filesystem::path& adapter, const std::optional<LongContextNote>& note,
                const std::string& base_fingerprint, const std::filesystem::path& base);

// Warns of a revision of the base that cannot be checked, and of a tokenizer beside the adapter
// that is not the base's, which is taken.
void tell_of_adapter(const std::filesystem::path& adapter, const AdapterConfig& config,
                     const std::filesystem::path& base);

// Fingerprint of the weights: names, shapes, first values of each tensor, however they are stored.
std::string fingerprint(const TensorSource& weights);
// The same of an adapter's folder, with its configuration.
std::string adapter_digest(const std::filesystem::path& adapter);

// Whether a model, a folder or a GGUF file, has a tokenizer of its own.
bool has_tokenizer(const std::filesystem::path& model);
// The hash of the tokenizer at `path` (a folder or a file); "" where there is none, and with a
// warning where it cannot be read.
std::string tokenizer_hash(const std::filesystem::path& path);

// The tokenizer at `path`, or of --model; what its files say and it does not follow is said on
// stderr. Error(bad_file) where it has more tokens than the model.
std::unique_ptr<Tokenizer> open_tokenizer(const std::filesystem::path& path);
std::unique_ptr<Tokenizer> open_tokenizer(const std::filesystem::path& path, int64_t vocabulary);
std::unique_ptr<Tokenizer> open_tokenizer(const Options& options, int64_t vocabulary);
// For what draws tokens: also those of the model's rows that the tokenizer has none for.
std::unique_ptr<Tokenizer> open_tokenizer_of_rows(const Options& options, int64_t vocabulary);

}  // namespace mullion
