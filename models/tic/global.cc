// Attention over a map as one row of tokens; positions are resampled to other sizes.
#include "models/tic/global.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "autograd/ops.h"
#include "tensor/attention_pattern.h"

namespace mullion {
namespace {

double keys_kernel(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

// (to, from): row i has the weights by which the values at `from` centres give the i-th of `to`.
// The filter is as wide as the step where the step is more than 1.
Tensor resampling(int64_t to, int64_t from) {
  const double step = static_cast<double>(from) / static_cast<double>(to);
  const double stretch = std::max(step, 1.0);
  std::vector<float> weights(static_cast<size_t>(to * from));
  for (int64_t i = 0; i < to; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * step;
    std::vector<double> row(static_cast<size_t>(from));
    double sum = 0;
    for (size_t j = 0; j < row.size(); ++j)
      sum += row[j] = keys_kernel((static_cast<double>(j) + 0.5 - centre) / stretch);
    for (size_t j = 0; j < row.size(); ++j)
      weights[static_cast<size_t>(i * from) + j] = static_cast<float>(row[j] / sum);
  }
  return Tensor::from(weights, {to, from});
}

}  // namespace

GlobalAttention::GlobalAttention(int64_t channels, int64_t n_heads)
    : qkv(channels, 3 * channels, true), proj(channels, channels, true), heads(n_heads) {}

void GlobalAttention::fields(Fields& fields) {
  fields("qkv", qkv);
  fields("proj", proj);
}

Tensor GlobalAttention::attend(const Tensor& packed) const {
  const auto [B, H, W, C3] = dims<4>("global attention", "a map", packed);
  const int64_t T = H * W, D = C3 / (3 * heads);
  const Tensor rows = reshape(packed, {B, T, 3 * heads, D});
  AttentionPattern all;
  all.causal = false;
  all.n_heads = heads;
  const Tensor y =
      attention(slice(rows, 2, 0, heads), slice(rows, 2, heads, 2 * heads),
                slice(rows, 2, 2 * heads, 3 * heads), all, 1 / std::sqrt(static_cast<double>(D)));
  return reshape(y, {B, H, W, heads * D});
}

Tensor GlobalAttention::operator()(const Tensor& x, const Tensor& residual) const {
  return proj(attend(qkv(x)), residual);
}

Tensor positions_at(const Tensor& table, int64_t height, int64_t width) {
  const int64_t C = table.dim(2);
  const auto g = static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(table.dim(1)))));
  if (height == g && width == g) return reshape(table, {g, g, C});
  const auto matrix = [&](int64_t to) { return raw::to_device(resampling(to, g), table.device()); };
  const Tensor rows = matmul(matrix(height), reshape(table, {g, g * C}));  // (H, g C)
  const Tensor columns = permute(reshape(rows, {height, g, C}), {1, 0, 2});
  const Tensor all = matmul(matrix(width), reshape(columns, {g, height * C}));  // (W, H C)
  return permute(reshape(all, {width, height, C}), {1, 0, 2});
}

}  // namespace mullion
