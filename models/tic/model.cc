// TiC forward, from pixels to logits: stem, stages of MSA-Conv blocks, pooling between them, head.
// (Read nn/msa_conv.h before; docs/papers.md has pictures.)
#include "models/tic/model.h"

#include "autograd/activation_checkpoint.h"
#include "autograd/ops.h"
#include "nn/init.h"
#include "nn/unit.h"
#include "tensor/random.h"

namespace mullion {
namespace {

// Zeros after the end of an axis, up to a multiple of n.
Tensor padded_to(const Tensor& x, int axis, int64_t n) {
  const int64_t missing = (n - x.dim(axis) % n) % n;
  if (missing == 0) return x;
  Shape shape = x.shape();
  shape[axis] = missing;
  return concat({x, Tensor::zeros(shape, x.dtype(), x.device())}, axis);
}

// A convolution whose stride is its kernel's side p: patches of the map as rows, one product.
// Sizes that p does not divide are padded with zeros at the end.
Tensor patch_conv(const Tensor& map, const Conv2d& conv) {
  const int64_t out = conv.weight.dim(0), p = conv.weight.dim(2);
  const Tensor x = padded_to(padded_to(map, 1, p), 2, p);
  const auto [B, H, W, C] = dims<4>("tic", "a map", x);
  const Tensor patches = permute(reshape(x, {B, H / p, p, W / p, p, C}), {0, 1, 3, 5, 2, 4});
  return linear(reshape(patches, {B, H / p, W / p, C * p * p}),
                reshape(conv.weight, {out, C * p * p}), conv.bias);
}

MsaConvGeometry geometry_of(const TicConfig& c, size_t stage, int64_t block, int64_t shifted) {
  MsaConvGeometry g;
  g.heads = c.variant == TicConfig::Variant::depthwise ? c.width(stage) : c.heads[stage];
  g.kernel_h = c.kernel_h;
  g.kernel_w = c.kernel_w;
  g.dilation = c.dilation;
  g.border = c.border;
  if (c.pool == TicConfig::Pool::kv) g.pool = c.kv_pool;
  if (block % 2 == 1 && c.shift == TicConfig::Shift::group) g.shift = MsaShift::directions;
  if (block % 2 == 1 && c.shift == TicConfig::Shift::per_layer) {
    g.shift = MsaShift::one_direction;
    g.direction = static_cast<int>(shifted % 4);
  }
  if (g.shift != MsaShift::none) g.shift_size = c.shift_amount();
  return g;
}

}  // namespace

Tensor drop_path_streams(const TicConfig& config, uint64_t step) {
  std::vector<int64_t> streams;
  for (uint64_t block = 0, blocks = static_cast<uint64_t>(config.blocks()); block < blocks; ++block)
    for (const uint64_t branch : {0, 1})
      streams.push_back(static_cast<int64_t>(mix_bits(mix_bits(step, block), branch)));
  const auto count = static_cast<int64_t>(streams.size());
  return Tensor::from(streams, {count});
}

Conv2d::Conv2d(int64_t in, int64_t out, int64_t kernel_h, int64_t kernel_w, bool with_bias)
    : weight(Tensor::empty({out, in, kernel_h, kernel_w})) {
  if (with_bias) bias = Tensor::zeros({out});
}

void Conv2d::fields(Fields& fields) {
  fields("weight", weight);
  fields("bias", bias);
}

TicBlock::TicBlock(const TicConfig& c, int64_t C, int64_t C_out, const MsaConvGeometry& geometry,
                   int64_t map_roll)
    : released_(c.block == TicConfig::Block::released),
      dilation_(c.dilation),
      norm1_(C, c.layer_norm_eps) {
  if (c.is_global())
    global_attn_ = std::make_unique<GlobalAttention>(C, geometry.heads);
  else
    attn_ = std::make_unique<MsaConv2d>(C, geometry, !released_, map_roll);
  if (released_) {
    conv_ = std::make_unique<Conv2d>(C, C_out, c.kernel_h, c.kernel_w, false);
    return;
  }
  const int64_t hidden = c.mlp_ratio * C;
  norm2_ = std::make_unique<LayerNorm>(C, c.layer_norm_eps);
  fc1_ = std::make_unique<Linear>(C, hidden, true);
  if (c.mlp_dwconv) dwconv_ = std::make_unique<Conv2d>(1, hidden, 3, 3, true);
  fc2_ = std::make_unique<Linear>(hidden, C, true);
}

void TicBlock::fields(Fields& fields) {
  fields("norm1", norm1_);
  if (attn_) fields("attn", *attn_);
  if (global_attn_) fields("attn", *global_attn_);
  if (released_) return fields("conv", *conv_);
  fields("norm2", *norm2_);
  fields("mlp.fc1", *fc1_);
  if (dwconv_) fields("mlp.dwconv", *dwconv_);
  fields("mlp.fc2", *fc2_);
}

Tensor TicBlock::mlp(const Tensor& x, const Tensor& residual) const {
  if (!dwconv_) return (*fc2_)(fc1_->gelu(x), residual);
  return (*fc2_)(gelu(depthwise_conv3x3((*fc1_)(x), dwconv_->weight, dwconv_->bias)), residual);
}

// tic:      y = x + drop(proj(msa(LN x))), then y + drop(mlp(LN y))
// released: relu(conv(msa(z) + z)) with z = LN x; no residual around it
Tensor TicBlock::operator()(const Tensor& x, double rate, uint64_t seed,
                            const Tensor& streams) const {
  const Tensor z = norm1_(x);
  const auto attend = [&](const Tensor& residual) {
    return global_attn_ ? (*global_attn_)(z, residual) : (*attn_)(z, residual);
  };
  if (released_) {
    const int64_t stride = conv_->weight.dim(0) / conv_->weight.dim(1);
    return relu(conv2d(attend(z), conv_->weight, stride, dilation_));
  }
  if (rate == 0) {  // nothing stands between a branch's last product and the sum
    const Tensor y = attend(x);
    return mlp((*norm2_)(y), y);
  }
  const auto drop = [&](const Tensor& branch, int64_t i) {
    return drop_path(branch, rate, seed, raw::slice(streams, 0, i, i + 1));
  };
  const Tensor y = add(x, drop(attend({}), 0));
  return add(y, drop(mlp((*norm2_)(y)), 1));
}

TicStage::TicStage(const TicConfig& c, size_t stage, int64_t blocks_before, int64_t odd_before)
    : pooled_(c.pool == TicConfig::Pool::inter), first_block_(blocks_before) {
  const int64_t C = c.width(stage), depth = c.depths[stage];
  const bool last = stage + 1 == c.depths.size(), released = c.block == TicConfig::Block::released;
  for (int64_t j = 0; j < depth; ++j) {
    const bool rolled = j % 2 == 1 && c.shift == TicConfig::Shift::roll_map;
    blocks_.push_back(std::make_unique<TicBlock>(
        c, C, released && !last && j + 1 == depth ? 2 * C : C,
        geometry_of(c, stage, j, odd_before + odd_blocks_), rolled ? c.shift_amount() : 0));
    odd_blocks_ += j % 2;
  }
  if (last || released) return;
  const int64_t side = pooled_ ? 1 : 2;
  down_ = std::make_unique<Conv2d>(C, 2 * C, side, side, true);
  down_norm_ = std::make_unique<LayerNorm>(2 * C, c.layer_norm_eps);
}

void TicStage::fields(Fields& fields) {
  fields("blocks", blocks_);
  if (!down_) return;
  fields("downsample.conv", *down_);
  fields("downsample.norm", *down_norm_);
}

Tensor TicStage::operator()(const Tensor& input, const TicTraining* training, int64_t total_blocks,
                            bool recompute) const {
  Tensor x = input;
  for (size_t j = 0; j < blocks_.size(); ++j) {
    const int64_t index = first_block_ + static_cast<int64_t>(j);
    double rate = 0;
    uint64_t seed = 0;
    Tensor streams;
    if (training) {
      if (total_blocks > 1)
        rate = training->drop_path *
               (static_cast<double>(index) / static_cast<double>(total_blocks - 1));
      seed = training->seed;
      streams = raw::slice(training->streams, 0, 2 * index, 2 * index + 2);
    }
    const auto compute = [block = blocks_[j].get(), rate, seed, streams](const Tensor& map) {
      const UnitScope unit(*block);
      return (*block)(map, rate, seed, streams);
    };
    x = recompute ? checkpoint(compute, x) : compute(x);
  }
  if (!down_) return x;
  return (*down_norm_)(patch_conv(pooled_ ? max_pool2x2(x) : x, *down_));
}

Tic::Tic(const TicConfig& config)
    : config_((config.check(), config)),
      stem_(config.in_chans, config.dim, config.patch, config.patch, true),
      stem_norm_(config.dim, config.layer_norm_eps),
      norm_(config.width(config.depths.size() - 1), config.layer_norm_eps),
      head_(config.width(config.depths.size() - 1), config.num_classes, true) {
  if (config.is_global())
    positions_ = Tensor::zeros({1, config.positions * config.positions, config.dim});
  int64_t blocks = 0, shifted = 0;
  for (size_t i = 0; i < config.depths.size(); ++i) {
    stages_.push_back(std::make_unique<TicStage>(config, i, blocks, shifted));
    blocks += config.depths[i];
    shifted += stages_.back()->odd_blocks();
  }
}

void Tic::fields(Fields& fields) {
  fields("stem.conv", stem_);
  fields("stem.norm", stem_norm_);
  fields("pos_embed", positions_);
  fields("stages", stages_);
  fields("norm", norm_);
  fields("head", head_);
}

std::vector<Module*> Tic::blocks() {
  std::vector<Module*> all;
  for_each_module<TicBlock>(*this, [&](const std::string&, TicBlock& b) { all.push_back(&b); });
  return all;
}

void Tic::initialize(uint64_t seed) {
  for_each_parameter(*this, [&](const std::string& name, Tensor& p) {
    if (p.rank() >= 2) init::truncated_normal(p, 0.02, seed, init::stream_of(name));
  });
}

Tensor Tic::stem(const Tensor& images) const {
  CHECK(images.rank() == 4 && images.dim(3) == config_.in_chans && images.numel() > 0,
        "tic: images of shape ", images.shape(), ", expected (B, H, W, ", config_.in_chans, ")");
  const Tensor input = compute_type_ == DType::bf16 ? cast(images, DType::bf16) : images;
  Tensor x = stem_norm_(patch_conv(input, stem_));
  if (positions_.defined()) {
    const Tensor positions = positions_at(positions_, x.dim(1), x.dim(2));
    x = add(x, x.dtype() == positions.dtype() ? positions : cast(positions, x.dtype()));
  }
  return x;
}

Tensor Tic::features(const Tensor& images, const TicTraining* training) const {
  Tensor x = stem(images);
  const int64_t total = config_.blocks();
  for (const auto& stage : stages_) x = (*stage)(x, training, total, recompute_);
  return norm_(x);
}

Tensor Tic::operator()(const Tensor& images, const TicTraining* training) const {
  const UnitScope unit(*this);
  const Tensor x = features(images, training);
  const auto [B, H, W, C] = dims<4>("tic", "features", x);
  return head_(mean(reshape(x, {B, H * W, C}), 1));
}

}  // namespace mullion
