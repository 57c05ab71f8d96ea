// The weights of a LLaMA with an adapter on it, as one checkpoint's.
#pragma once
#include <memory>

#include "models/llama/model.h"
#include "models/llama/peft.h"
#include "tensor/io/tensor_source.h"

namespace mullion {

// A view of the parameters of `model` under Hugging Face names, which must outlive it: a matrix
// with a LoRA pair reads as W + scale B A, computed in f32 whatever W is held in, the scale being
// that of `config` for its module; all others as they are held. The parameters are on the CPU. As
// everywhere in checkpoints, lm_head is there only where it is not the embedding's own tensor.
std::unique_ptr<TensorSource> merged_weights(Llama& model, const AdapterConfig& config);

}  // namespace mullion
