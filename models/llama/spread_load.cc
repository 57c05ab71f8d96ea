// As load.cc, but for the blocks, which are read piece by piece.
#include "models/llama/spread_load.h"

#include "nn/init.h"
#include "nn/placeholder.h"
#include "nn/state.h"
#include "tensor/absent.h"
#include "tensor/check.h"

namespace mullion {
namespace {

bool is_of_block(const std::string& name) { return name.starts_with("model.layers."); }

}  // namespace

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
      if (is_of_block(name)) {
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

std::unique_ptr<Llama> make_llama_but_blocks(const LlamaConfig& config, uint64_t seed) {
  auto model = without_matrices<Llama>(config);
  for_each_parameter(*model, [&](const std::string& name, Tensor& p) {
    if (is_absent(p) && is_of_block(name)) return;
    if (is_absent(p)) p = Tensor::empty(p.shape());
    initialize_parameter(config, seed, name, p);
  });
  return model;
}

void initialize_parameter(const LlamaConfig& config, uint64_t seed, const std::string& name,
                          Tensor p) {
  if (p.rank() == 2)
    init::normal(p, config.initializer_range, seed, init::stream_of(name));
  else
    init::constant(p, 1);
}

}  // namespace mullion
