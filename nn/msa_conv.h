// MSA-Conv as a layer: the projections around the windowed attention (TiC, arXiv 2310.04134).
#pragma once
#include "nn/linear.h"
#include "tensor/kernel_args/msa_conv.h"

namespace mullion {

class MsaConv2d : public Module {
 public:
  // `geometry` without the map's size; head_dim and scale follow from the channels. With
  // map_roll = s the whole map is rolled by (-s, -s) before and back after, as Swin does.
  MsaConv2d(int64_t channels, const MsaConvGeometry& geometry, bool project, int64_t map_roll);
  // (B, H, W, C) -> (B, H, W, C), with the residual added where one is given
  Tensor operator()(const Tensor& x, const Tensor& residual = {}) const;
  // Of the projections (B, H, W, 3C), before the output's: (B, H, W, C).
  Tensor attend(Tensor packed) const;
  void fields(Fields& fields) override;

  Linear qkv;                    // rows: q, then k, then v
  std::unique_ptr<Linear> proj;  // absent in the released operator
  MsaConvGeometry geometry;
  int64_t map_roll;
};

}  // namespace mullion
