// A LLaMA for tests of what a step asks of the device: LoRA under SF attention.
#pragma once
#include "autograd/engine.h"
#include "autograd/step_graph.h"
#include "models/llama/load.h"
#include "models/llama/model.h"
#include "tensor/attention_pattern.h"
#include "tests/cuda/device_runs.h"
#include "tests/small_llama_config.h"

namespace mullion::test {

class SmallLlama {
 public:
  SmallLlama() : model(small_llama_config(8, 40)) {
    model.initialize(5);
    LoraOptions lora;
    lora.rank = 4;
    add_lora(model, lora, 9);
    move_to(model, kCuda);
    PatternOptions pattern;
    pattern.n_heads = model.config().num_attention_heads;
    pattern.context = 24;
    pattern.group_size = 8;
    pattern.sinks = 4;
    model.set_pattern(make_pattern("sf", pattern));
    for (const NamedParameter& p : trainable_parameters(model)) trained.push_back(p.value);
  }
  Tensor pass(const StepGraph::Inputs& in) const {
    const Tensor loss = model.loss(in[0], in[1], 1.0 / 24);
    backward(loss);
    return loss;
  }

  Llama model;
  std::vector<Tensor> trained;
  const Tensor ids = Tensor::from(std::vector<int64_t>(24, 3), {1, 24});
};

}  // namespace mullion::test
