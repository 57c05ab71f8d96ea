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
  require_same_on_all_ranks({{"model", sha256_hex(model)}, {name_of_adapter, pairs}});
}

}  // namespace mullion
