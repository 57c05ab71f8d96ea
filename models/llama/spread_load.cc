#include "models/llama/spread_load.h"

#include "nn/placeholder.h"
#include "nn/state.h"
#include "tensor/absent.h"
#include "tensor/check.h"

namespace mullion {

std::unique_ptr<Llama> load_llama_but_blocks(const LlamaCheckpoint& checkpoint,
                                             const LlamaLoadOptions& options) {
  const TensorSource& weights = *checkpoint.weights;
  CHECK_AS(Fault::usage, !options.as_stored || !is_quantised(weights), weights.name(),
           ": matrices in blocks cannot be spread over ranks");
  LlamaConfig config = checkpoint.config;
  if (options.context) extend_context(config, options.context);
  auto model = without_matrices<Llama>(config);
  for_each_parameter(*model, [&](const std::string& name, Tensor& p) {
    if (is_absent(p)) {
      const bool stays = options.as_stored && weights.at(name).type == StoredType::bf16;
      const DType held = stays ? DType::bf16 : options.matrix_dtype;
      if (name.starts_with("model.layers.")) {
        p = absent_tensor(p.shape(), held, name);
        return;
      }
      p = Tensor::empty(p.shape(), held);
    }
    load_tensor(weights, name, p);
  });
  return model;
}

void read_absent(const LlamaCheckpoint& checkpoint, Llama& model) {
  for_each_parameter(model, [&](const std::string& name, Tensor& p) {
    if (is_absent(p)) load_tensor(*checkpoint.weights, name, Tensor::empty(p.shape(), p.dtype()));
  });
}

}  // namespace mullion
