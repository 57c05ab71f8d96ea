// One hash for the configuration with the weights, one for the adapter.
#include "apps/llama/same_model.h"

#include <nlohmann/json.hpp>

#include "apps/llama/model_options.h"
#include "apps/run/ranks.h"
#include "tensor/io/contents.h"
#include "tensor/io/safetensors.h"
#include "tensor/io/sha256.h"

namespace mullion {

void require_same_model(const LlamaConfig& config, const TensorSource* weights,
                        const std::filesystem::path& adapter, const std::string& name_of_adapter) {
  if (!ranks()) return;
  std::string model = to_json(config).dump(), pairs = "none";
  if (weights) model += contents_digest(*weights);
  if (!adapter.empty())
    pairs = sha256_hex(adapter_digest(adapter) +
                       contents_digest(*open_safetensors(adapter, "adapter_model")));
  // The adapter first: what it says of positions is in the model's configuration too.
  require_same_on_all_ranks({{name_of_adapter, pairs}, {"model", sha256_hex(model)}});
}

std::string tokenizer_identity(const Tokenizer& tokenizer) {
  const auto id = [](std::optional<int32_t> token) { return token ? std::to_string(*token) : "-"; };
  return concat(tokenizer.hash(), tokenizer.add_bos() ? ", BOS " : ", no BOS ", id(tokenizer.bos()),
                tokenizer.add_eos() ? ", EOS " : ", no EOS ", id(tokenizer.eos()));
}

}  // namespace mullion
