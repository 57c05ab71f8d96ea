// Linear, with an optional LoRA pair beside its weight; Embedding; the two normalisations.
#pragma once
#include "nn/module.h"

namespace mullion {

// y = x W^T + b; W (out, in), a tensor or, frozen, blocks. With LoRA (Hu et al. 2021):
// + scale (x A^T) B^T, scale = alpha / r.
class Linear : public Module {
 public:
  Linear(int64_t in, int64_t out, bool bias = false);
  // (.., in) -> (.., out); a residual of that shape is added on the way. With a stream (one i64)
  // the pair's dropout acts, which is for training alone.
  Tensor operator()(const Tensor& x, const Tensor& residual = {},
                    const Tensor& dropout_stream = {}) const;
  Tensor gelu(const Tensor& x) const;  // of the result
  void fields(Fields& fields) override;

  // Gives the layer a pair A (r, in), B (out, r); A as yet uninitialised, B zero.
  void add_lora(int64_t rank, double alpha);
  bool has_lora() const { return lora_a.defined(); }

  Weight weight;
  Tensor bias;            // undefined where there is none
  Tensor lora_a, lora_b;  // "lora_A.weight", "lora_B.weight"
  double lora_scale = 0, lora_dropout = 0;
  uint64_t lora_seed = 0;  // of its masks
};

// Several layers of one x (.., in), a result (.., out) each. LoRA pairs go together where they can
// (lora_linears). `again`, where given, computes x once more; pairs keep it instead of x.
std::vector<Tensor> linears(const Tensor& x, const std::vector<const Linear*>& layers,
                            const std::function<Tensor()>& again = {},
                            const Tensor& dropout_stream = {});
// Moves the pairs of layers of one x into one storage, A below A and B below B, so that they can.
// Every parameter stays one of its own, a view; gradients and handles from before stay behind.
void lay_pairs_together(const std::vector<Linear*>& layers);

class Embedding : public Module {
 public:
  Embedding(int64_t rows, int64_t width);
  Tensor operator()(const Tensor& ids) const;  // (..) of i64 -> (.., width)
  void fields(Fields& fields) override;
  Weight weight;
};

class RmsNorm : public Module {
 public:
  RmsNorm(int64_t width, double epsilon);
  Tensor operator()(const Tensor& x) const;  // (.., width) -> the same
  void fields(Fields& fields) override;
  Tensor weight;
  double eps;
};

class LayerNorm : public Module {
 public:
  explicit LayerNorm(int64_t width, double epsilon = 1e-5);
  Tensor operator()(const Tensor& x) const;  // (.., width) -> the same
  void fields(Fields& fields) override;
  Tensor weight, bias;
  double eps;
};

}  // namespace mullion
