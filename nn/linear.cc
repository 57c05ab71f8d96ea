// Forward passes of the layers; a pair adds to its weight's product in one op.
#include "nn/linear.h"

#include "autograd/ops.h"
#include "nn/placeholder.h"

namespace mullion {

Linear::Linear(int64_t in, int64_t out, bool with_bias) : weight(new_matrix(out, in)) {
  if (with_bias) bias = Tensor::zeros({out});
}

Tensor Linear::operator()(const Tensor& x, const Tensor& residual,
                          const Tensor& dropout_stream) const {
  if (!has_lora()) return linear(x, weight, bias, residual);
  const bool drops = dropout_stream.defined() && lora_dropout > 0;
  const Tensor y = drops ? lora_linears(x, {{weight, lora_a, lora_b, residual, lora_seed}},
                                        lora_scale, {}, {lora_dropout, dropout_stream})[0]
                         : lora_linear(x, weight, lora_a, lora_b, lora_scale, residual);
  return bias.defined() ? add(y, bias) : y;
}

Tensor Linear::gelu(const Tensor& x) const {
  return has_lora()           ? mullion::gelu((*this)(x))
         : weight.is_blocks() ? mullion::gelu(linear(x, weight, bias))
                              : linear_gelu(x, weight.tensor(), bias);
}

void Linear::fields(Fields& fields) {
  fields("weight", weight);
  fields("bias", bias);
  fields("lora_A.weight", lora_a);
  fields("lora_B.weight", lora_b);
}

void Linear::add_lora(int64_t rank, double alpha) {
  CHECK(rank > 0, "LoRA: rank ", rank);
  lora_a = Tensor::empty({rank, weight.dim(1)}, DType::f32, weight.device());
  lora_b = Tensor::zeros({weight.dim(0), rank}, DType::f32, weight.device());
  lora_scale = alpha / static_cast<double>(rank);
}

std::vector<Tensor> linears(const Tensor& x, const std::vector<const Linear*>& layers,
                            const std::function<Tensor()>& again, const Tensor& dropout_stream) {
  std::vector<Projection> projections;
  double scale = 0, dropout = 0;
  bool together = true;
  for (const Linear* layer : layers) {
    projections.push_back({layer->weight, layer->lora_a, layer->lora_b, {}, layer->lora_seed});
    together = together && !layer->bias.defined();
    if (!layer->has_lora()) continue;
    together =
        together && (scale == 0 || (scale == layer->lora_scale && dropout == layer->lora_dropout));
    scale = layer->lora_scale;
    dropout = layer->lora_dropout;
  }
  if (together && scale != 0)
    return lora_linears(x, projections, scale, again,
                        {dropout_stream.defined() ? dropout : 0, dropout_stream});
  std::vector<Tensor> results;
  for (const Linear* layer : layers) results.push_back((*layer)(x, {}, dropout_stream));
  return results;
}

namespace {
void lay_together(const std::vector<Tensor*>& matrices) {
  int64_t count = 0;
  for (const Tensor* m : matrices) count += m->numel();
  if (matrices.empty()) return;
  const Tensor all = Tensor::empty({count}, matrices[0]->dtype(), matrices[0]->device());
  int64_t first = 0;
  for (Tensor* m : matrices) {
    const int64_t end = first + m->numel();
    const Tensor place = raw::reshape(raw::slice(all, 0, first, end), m->shape());
    raw::copy_into(*m, place);
    *m = place;
    first = end;
  }
}
}  // namespace

void lay_pairs_together(const std::vector<Linear*>& layers) {
  std::vector<Tensor*> a, b;
  for (Linear* layer : layers) {
    if (!layer->has_lora()) continue;
    a.push_back(&layer->lora_a);
    b.push_back(&layer->lora_b);
  }
  lay_together(a);
  lay_together(b);
}

Embedding::Embedding(int64_t rows, int64_t width) : weight(new_matrix(rows, width)) {}
Tensor Embedding::operator()(const Tensor& ids) const { return embedding(weight, ids); }
void Embedding::fields(Fields& fields) { fields("weight", weight); }

RmsNorm::RmsNorm(int64_t width, double epsilon)
    : weight(Tensor::full({width}, 1.0)), eps(epsilon) {}
Tensor RmsNorm::operator()(const Tensor& x) const { return rms_norm(x, weight, eps); }
void RmsNorm::fields(Fields& fields) { fields("weight", weight); }

LayerNorm::LayerNorm(int64_t width, double epsilon)
    : weight(Tensor::full({width}, 1.0)), bias(Tensor::zeros({width})), eps(epsilon) {}
Tensor LayerNorm::operator()(const Tensor& x) const { return layer_norm(x, weight, bias, eps); }
void LayerNorm::fields(Fields& fields) {
  fields("weight", weight);
  fields("bias", bias);
}

}  // namespace mullion
