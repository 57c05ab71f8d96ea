// Where a block looks. An output is linear in the values, O = sum over keys of a V, so that the
// gradient of an output with respect to the values is the attention itself: whatever window, shift,
// border and pooling there are, it is the kernel that says where they lead.
#include <algorithm>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "models/tic/model.h"

namespace mullion {

Tensor TicBlock::attention_from(const Tensor& x, int64_t row, int64_t column) const {
  const auto [B, H, W, C] = dims<4>("attention_from", "a map", x);
  CHECK(B == 1 && row >= 0 && row < H && column >= 0 && column < W, "attention_from: pixel (", row,
        ", ", column, ") of a map of shape ", x.shape());
  Tensor packed;
  {
    NoGrad no_grad;
    const Tensor z = norm1_(x);
    packed = attn_ ? attn_->qkv(z) : global_attn_->qkv(z);
  }
  set_requires_grad(packed, true);
  const Tensor out = attn_ ? attn_->attend(packed) : global_attn_->attend(packed);
  std::vector<float> one(static_cast<size_t>(H * W * C));
  std::fill_n(one.begin() + (row * W + column) * C, C, 1.0f);
  backward(out, raw::to_device(Tensor::from(one, {1, H, W, C}), x.device()));
  const int64_t heads = attn_ ? attn_->geometry.heads : global_attn_->heads;
  const Tensor values = raw::slice(grad(packed), 3, 2 * C, 3 * C);
  // The channels of a head agree, but for shifts that differ within a head: their mean.
  const Tensor by_head = raw::clone(values);
  NoGrad no_grad;
  return permute(reshape(mean(reshape(by_head, {H * W, heads, C / heads}), 2), {H, W, heads}),
                 {2, 0, 1});
}

Tensor TicStage::input_of(Tensor x, int64_t index) const {
  for (int64_t j = 0; j < index; ++j) x = block(j)(x, 0, 0, {});
  return x;
}

Tensor Tic::attention_from(const Tensor& image, int64_t layer, int64_t y, int64_t x) const {
  const size_t last = config_.stage_of(layer);
  Tensor map;
  {
    NoGrad no_grad;
    map = stem(image);
    for (size_t stage = 0; stage < last; layer -= config_.depths[stage++])
      map = (*stages_[stage])(map, nullptr, config_.blocks());
    map = stages_[last]->input_of(map, layer);
  }
  const int64_t stride = config_.stride(last);
  return stages_[last]->block(layer).attention_from(map, y / stride, x / stride);
}

}  // namespace mullion
