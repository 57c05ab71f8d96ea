// Activation checkpointing of a LLaMA (Chen et al. 2016): what the backward pass computes again
// instead of the forward keeping it. The bits are the same.
#pragma once
#include <functional>

#include "nn/linear.h"

namespace mullion {

enum class Recompute : uint8_t {
  none,
  // The norms, and gate and up of the MLPs of all blocks but the last third, whose backward comes
  // first, when there is most in memory: 0.6 of it for a twentieth more time.
  mlp,
  block,  // all but the input of each block: a tenth of the memory for a third more time
};

// The same for block `i` of `blocks`.
class BlockRecompute {
 public:
  using Part = std::function<Tensor(const Tensor&)>;
  BlockRecompute() = default;
  BlockRecompute(Recompute what, size_t i, size_t blocks)
      : what_(what), mlp_(what == Recompute::mlp && i < blocks - blocks / 3) {}
  // part(x), both (B, T, width).
  Tensor block(const Part& part, const Tensor& x) const;
  Tensor mlp(const Part& part, const Tensor& x) const;
  // norm(x) once more, for linears(); empty where it is kept.
  std::function<Tensor()> norm(const RmsNorm& norm, const Tensor& x) const;

 private:
  Recompute what_ = Recompute::none;
  bool mlp_ = false;
};

}  // namespace mullion
