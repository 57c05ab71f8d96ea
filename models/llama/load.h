// A LLaMA with the weights of a checkpoint, and LoRA beside them.
#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "models/llama/checkpoint.h"
#include "models/llama/model.h"
#include "models/llama/peft.h"

namespace mullion {

struct LlamaLoadOptions {
  DType matrix_dtype = DType::f32;  // or bf16: how the matrices, frozen ones, are held
  bool as_stored = false;           // blocks and bf16 stay what they are in the file
  int64_t context = 0;  // extended to this many tokens by Position Interpolation; 0: as is
  Device device = {};   // where the parameters go, one after another
};
std::unique_ptr<Llama> load_llama(const LlamaCheckpoint& checkpoint,
                                  const LlamaLoadOptions& options = {});
// Whether the file has matrices in blocks.
bool is_quantised(const TensorSource& weights);
// "Q4_K 193, Q6_K 33": its matrices in blocks, by type; "" where there are none.
std::string describe_blocks(const TensorSource& weights);
// The weights as a Hugging Face folder: config.json and model.safetensors (one file).
void save_llama(const std::filesystem::path& folder, Llama& model);

struct LoraOptions {
  int64_t rank = 8;
  double alpha = 16;
  std::vector<std::string> targets = {"q_proj", "k_proj", "v_proj", "o_proj"};
  bool train_embedding = true;  // LoRA+ (LongLoRA section 3.3): the embedding and all norms as well
  bool train_norms = true;
  double dropout = 0;  // of x before each A, in training (Llama::loss with a dropout stream)
};
// Gives the named projections a pair (A Kaiming-uniform, B zero, so the model computes what it did)
// and sets which parameters are trained. An embedding to be trained is held in f32, and a head that
// was tied to it keeps the values it has, frozen.
void add_lora(Llama& model, const LoraOptions& options, uint64_t seed);

// adapter_config.json and adapter_model.safetensors as PEFT reads them: the LoRA pairs and every
// whole parameter that is trained.
void save_adapter(const std::filesystem::path& folder, Llama& model, const LoraOptions& options,
                  const std::string& base_name);
// Adds and fills the pairs and whole parameters of an adapter folder, ours or PEFT's. Nothing is
// trainable afterwards. Returns what the adapter says of itself.
AdapterConfig load_adapter(Llama& model, const std::filesystem::path& folder);
// Fills the pairs and whole parameters that add_lora has made, e.g. to continue training; the
// folder must hold exactly those. With `others_stay` whole parameters to be trained that the
// adapter does not claim to have stay as they are; their names are returned.
std::vector<std::string> load_adapter_values(Llama& model, const std::filesystem::path& folder,
                                             bool others_stay = false);

}  // namespace mullion
