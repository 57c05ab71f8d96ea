// TiC: a stem of patches, stages of MSA-Conv blocks with pooling between them, a linear head. No
// parameter depends on the image's size, so one set of weights serves every size. Each block is a
// unit (nn/unit.h). Inside the model maps are (B, H, W, C); parameters have the names and orders of
// checkpoints in timm's manner. The twin (block global) is the same but for its attention and for
// learned positions.
#pragma once
#include "models/tic/config.h"
#include "models/tic/global.h"
#include "nn/msa_conv.h"

namespace mullion {

// Stochastic depth in training.
struct TicTraining {
  double drop_path = 0;  // of the last block; grows linearly from 0 at the first
  uint64_t seed = 0;
  Tensor streams;  // drop_path_streams(), there or beside the images
};
// What names a step's random draws, two a block: (2 blocks) of i64, a function of the step's
// number, so that a resumed run drops the same. On the CPU.
Tensor drop_path_streams(const TicConfig& config, uint64_t step);

// A convolution's parameters in PyTorch's form: weight (out, in, kh, kw), optional bias (out).
class Conv2d : public Module {
 public:
  Conv2d(int64_t in, int64_t out, int64_t kernel_h, int64_t kernel_w, bool bias);
  void fields(Fields& fields) override;
  Tensor weight, bias;
};

class TicBlock : public Module {
 public:
  // out_channels differs from channels only in the last released block of a stage, which has
  // stride 2 in place of a downsampling layer.
  TicBlock(const TicConfig& config, int64_t channels, int64_t out_channels,
           const MsaConvGeometry& geometry, int64_t map_roll);
  // A map (B, H, W, C), with the last axis out_channels and half the sides where it has stride 2.
  // rate is the drop-path probability; seed and the two streams name the block's random draws.
  Tensor operator()(const Tensor& x, double rate, uint64_t seed, const Tensor& streams) const;
  // Of one map (1, H, W, C): where its heads look from the pixel (y, x). (heads, H, W)
  Tensor attention_from(const Tensor& x, int64_t row, int64_t column) const;
  void fields(Fields& fields) override;

 private:
  Tensor mlp(const Tensor& x, const Tensor& residual = {}) const;
  bool released_;
  int64_t dilation_;
  LayerNorm norm1_;
  std::unique_ptr<MsaConv2d> attn_;  // one of these two
  std::unique_ptr<GlobalAttention> global_attn_;
  std::unique_ptr<LayerNorm> norm2_;
  std::unique_ptr<Linear> fc1_, fc2_;
  std::unique_ptr<Conv2d> dwconv_, conv_;
};

class TicStage : public Module {
 public:
  TicStage(const TicConfig& config, size_t stage, int64_t blocks_before, int64_t odd_before);
  // A map (B, H, W, C) -> the next stage's. `recompute` as Tic::set_recompute.
  Tensor operator()(const Tensor& x, const TicTraining* training, int64_t total_blocks,
                    bool recompute = false) const;
  // The map that block number `index` is given, from the map that the stage is given.
  Tensor input_of(Tensor x, int64_t index) const;
  const TicBlock& block(int64_t index) const { return *blocks_[static_cast<size_t>(index)]; }
  void fields(Fields& fields) override;
  int64_t odd_blocks() const { return odd_blocks_; }

 private:
  std::vector<std::unique_ptr<TicBlock>> blocks_;
  std::unique_ptr<Conv2d> down_;
  std::unique_ptr<LayerNorm> down_norm_;
  bool pooled_;
  int64_t first_block_, odd_blocks_ = 0;
};

class Tic : public Module {
 public:
  explicit Tic(const TicConfig& config);
  // images (B, H, W, in_chans) of any size -> (B, num_classes). Drop path only with `training`.
  Tensor operator()(const Tensor& images, const TicTraining* training = nullptr) const;
  // The normed map before the global pooling: (B, H', W', C).
  Tensor features(const Tensor& images, const TicTraining* training = nullptr) const;
  // Where the heads of a block, `layer` from 0 over all stages, look from one pixel of an image
  // (1, H, W, in_chans): the weights of the keys on the block's map, (heads, H', W'). They add up
  // to less than 1 where keys outside the map have their part.
  Tensor attention_from(const Tensor& image, int64_t layer, int64_t y, int64_t x) const;
  void fields(Fields& fields) override;
  // Weights from truncated normals of deviation 0.02, biases 0.
  void initialize(uint64_t seed);
  // The type of activations: f32, or bf16 where the device computes in it. Parameters stay f32.
  void set_compute_type(DType type) { compute_type_ = type; }
  // Whether the backward pass computes each block once more from its input, which is all that is
  // kept of it (Chen et al. 2016). The bits are the same.
  void set_recompute(bool blocks) { recompute_ = blocks; }
  std::vector<Module*> blocks();  // in order over all stages
  const TicConfig& config() const { return config_; }
  Device device() const { return head_.weight.device(); }

 private:
  Tensor stem(const Tensor& images) const;
  TicConfig config_;
  DType compute_type_ = DType::f32;
  bool recompute_ = false;
  Conv2d stem_;
  LayerNorm stem_norm_;
  Tensor positions_;  // (1, positions², C) of a global twin
  std::vector<std::unique_ptr<TicStage>> stages_;
  LayerNorm norm_;
  Linear head_;
};

}  // namespace mullion
