// What the global twin of a TiC has instead of MSA-Conv, as in ViT (Dosovitskiy et al. 2020, arXiv
// 2010.11929): attention among all pixels of a map, and learned positions, without which it could
// not tell one place from another. It is there to be compared with: its cost grows with the square
// of the pixels, and its positions belong to one size and are interpolated for others.
#pragma once
#include "nn/linear.h"

namespace mullion {

class GlobalAttention : public Module {
 public:
  GlobalAttention(int64_t channels, int64_t n_heads);  // heads divide the channels
  // (B, H, W, C) -> (B, H, W, C), with the residual added where one is given
  Tensor operator()(const Tensor& x, const Tensor& residual = {}) const;
  // Of the projections (B, H, W, 3C), before the output's: (B, H, W, C).
  Tensor attend(const Tensor& packed) const;
  void fields(Fields& fields) override;

  Linear qkv, proj;  // rows of qkv: q, then k, then v
  int64_t heads;
};

// The table of positions (1, g², C) for a map of H x W: (H, W, C). Bicubic with antialiasing (Keys'
// kernel, a = -1/2), as timm's resample_abs_pos_embed; the table itself where the map is g x g.
Tensor positions_at(const Tensor& table, int64_t height, int64_t width);

}  // namespace mullion
