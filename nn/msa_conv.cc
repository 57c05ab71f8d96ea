// Joined projections in, windows, output projection out.
#include "nn/msa_conv.h"

#include <cmath>

#include "autograd/ops.h"

namespace mullion {

MsaConv2d::MsaConv2d(int64_t channels, const MsaConvGeometry& g, bool project, int64_t roll_by)
    : qkv(channels, 3 * channels, true), geometry(g), map_roll(roll_by) {
  CHECK(channels % g.heads == 0, "MSA-Conv: ", g.heads, " heads do not divide ", channels,
        " channels");
  geometry.head_dim = channels / g.heads;
  geometry.scale = 1 / std::sqrt(static_cast<double>(geometry.head_dim));
  if (project) proj = std::make_unique<Linear>(channels, channels, true);
}

void MsaConv2d::fields(Fields& fields) {
  fields("qkv", qkv);
  if (proj) fields("proj", *proj);
}

Tensor MsaConv2d::attend(Tensor packed) const {
  const int64_t C = packed.dim(-1) / 3;
  Tensor y;
  if (map_roll) packed = roll(roll(packed, 1, -map_roll), 2, -map_roll);
  if (geometry.pool > 1) {
    const Tensor kv = avg_pool(slice(packed, 3, C, 3 * C), geometry.pool);
    y = msa_conv(slice(packed, 3, 0, C), slice(kv, 3, 0, C), slice(kv, 3, C, 2 * C), geometry);
  } else {
    y = msa_conv(packed, geometry);
  }
  return map_roll ? roll(roll(y, 1, map_roll), 2, map_roll) : y;
}

Tensor MsaConv2d::operator()(const Tensor& x, const Tensor& residual) const {
  const Tensor y = attend(qkv(x));
  if (proj) return (*proj)(y, residual);
  return residual.defined() ? add(y, residual) : y;
}

}  // namespace mullion
