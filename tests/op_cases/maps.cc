// Rows of autograd/ops/msa_conv.cc and conv.cc, on maps (B, H, W, C).
#include <algorithm>

#include "tests/autograd/op_table.h"
#include "tests/reference_msa_conv.h"

namespace mullion::test {
namespace {

using In = std::vector<Tensor>;
using Ref = std::vector<Values>;

// Calls visit(b, y, x, c, index) for every element of a map.
template <typename F>
void for_each_element(int64_t B, int64_t H, int64_t W, int64_t C, F visit) {
  size_t index = 0;
  for (int64_t b = 0; b < B; ++b)
    for (int64_t y = 0; y < H; ++y)
      for (int64_t x = 0; x < W; ++x)
        for (int64_t c = 0; c < C; ++c) visit(b, y, x, c, index++);
}

OpRow packed_row(const std::string& variant, int64_t H, int64_t W, MsaConvGeometry g) {
  const int64_t C = g.heads * g.head_dim;
  g.batch = 2;
  g.height = H;
  g.width = W;
  g.scale = 1 / std::sqrt(static_cast<double>(g.head_dim));
  return {"msa_conv",
          variant,
          {{{2, H, W, 3 * C}}},
          [g](const In& in) { return msa_conv(in[0], g); },
          [g, C](const Ref& in) {
            MsaReference r;
            r.g = g;
            for (size_t pixel = 0; pixel < in[0].size(); pixel += static_cast<size_t>(3 * C)) {
              const auto begin = in[0].begin() + static_cast<std::ptrdiff_t>(pixel);
              r.q.insert(r.q.end(), begin, begin + C);
              r.k.insert(r.k.end(), begin + C, begin + 2 * C);
              r.v.insert(r.v.end(), begin + 2 * C, begin + 3 * C);
            }
            r.forward();
            return r.o;
          }};
}

MsaConvGeometry geometry(int64_t heads, int64_t head_dim, int64_t kernel) {
  MsaConvGeometry g;
  g.heads = heads;
  g.head_dim = head_dim;
  g.kernel_h = g.kernel_w = kernel;
  return g;
}

OpRow pooled_row() {
  MsaConvGeometry g = geometry(4, 2, 3);
  g.batch = 1;
  g.height = 5;
  g.width = 6;
  g.pool = 2;
  g.shift = MsaShift::directions;
  g.shift_size = 1;
  return {"msa_conv",
          "keys_pooled",
          {{{1, 5, 6, 8}}, {{1, 3, 3, 8}}, {{1, 3, 3, 8}}},
          [g](const In& in) { return msa_conv(in[0], in[1], in[2], g); },
          [g](const Ref& in) {
            MsaReference r;
            r.g = g;
            r.q = in[0];
            r.k = in[1];
            r.v = in[2];
            r.forward();
            return r.o;
          }};
}

OpRow conv_row(const std::string& variant, int64_t H, int64_t W, int64_t k, int64_t stride,
               int64_t dilation) {
  const int64_t pad = dilation * (k - 1) / 2;
  const int64_t Ho = (H + 2 * pad - dilation * (k - 1) - 1) / stride + 1;
  const int64_t Wo = (W + 2 * pad - dilation * (k - 1) - 1) / stride + 1;
  return {"conv2d",
          variant,
          {{{2, H, W, 3}}, {{4, 3, k, k}}},
          [=](const In& in) { return conv2d(in[0], in[1], stride, dilation); },
          [=](const Ref& in) {
            Values out(static_cast<size_t>(2 * Ho * Wo * 4), 0.0);
            for_each_element(
                2, Ho, Wo, 4, [&](int64_t b, int64_t y, int64_t x, int64_t o, size_t at) {
                  for (int64_t c = 0; c < 3; ++c)
                    for (int64_t i = 0; i < k; ++i)
                      for (int64_t j = 0; j < k; ++j) {
                        const int64_t yi = y * stride - pad + i * dilation;
                        const int64_t xi = x * stride - pad + j * dilation;
                        if (yi < 0 || yi >= H || xi < 0 || xi >= W) continue;
                        out[at] += in[0][static_cast<size_t>(((b * H + yi) * W + xi) * 3 + c)] *
                                   in[1][static_cast<size_t>(((o * 3 + c) * k + i) * k + j)];
                      }
                });
            return out;
          }};
}

}  // namespace

std::vector<OpRow> map_rows() {
  std::vector<OpRow> rows;
  rows.push_back(packed_row("plain", 5, 7, geometry(2, 4, 3)));
  rows.push_back(packed_row("wide", 8, 20, geometry(2, 16, 5)));
  rows.push_back(packed_row("kernel_larger_than_map", 3, 2, geometry(1, 4, 7)));
  rows.push_back(packed_row("depthwise", 4, 5, geometry(4, 1, 3)));
  MsaConvGeometry g = geometry(4, 3, 3);
  g.border = MsaBorder::masked;
  rows.push_back(packed_row("masked", 4, 4, g));
  g.dilation = 2;
  rows.push_back(packed_row("masked_dilated", 6, 7, g));
  g = geometry(4, 2, 3);
  g.shift = MsaShift::directions;
  g.shift_size = 3;
  rows.push_back(packed_row("shifted", 6, 5, g));
  g = geometry(1, 8, 3);
  g.shift = MsaShift::directions;
  g.shift_size = 2;
  rows.push_back(packed_row("shifted_channel_quarters", 6, 5, g));
  g.shift = MsaShift::one_direction;
  g.direction = 3;
  rows.push_back(packed_row("one_direction", 6, 5, g));
  g = geometry(2, 4, 3);
  g.kernel_h = 5;
  g.dropout = 0.25;
  g.seed = 3;
  g.stream = 8;
  rows.push_back(packed_row("rectangular_dropout", 5, 5, g));
  rows.push_back(pooled_row());

  for (const auto& [H, W] : {std::pair<int64_t, int64_t>{4, 6}, {5, 3}, {1, 1}}) {
    const int64_t Ho = (H + 1) / 2, Wo = (W + 1) / 2;
    const std::string size = std::to_string(H) + "x" + std::to_string(W);
    rows.push_back(
        {"max_pool2x2",
         size,
         {{{2, H, W, 3}}},
         [](const In& in) { return max_pool2x2(in[0]); },
         [H = H, W = W, Ho, Wo](const Ref& in) {
           Values out(static_cast<size_t>(2 * Ho * Wo * 3), -INFINITY);
           for_each_element(2, H, W, 3, [&](int64_t b, int64_t y, int64_t x, int64_t c, size_t at) {
             double& o = out[static_cast<size_t>(((b * Ho + y / 2) * Wo + x / 2) * 3 + c)];
             o = std::max(o, in[0][at]);
           });
           return out;
         }});
    rows.push_back({"avg_pool",
                    size,
                    {{{2, H, W, 3}}},
                    [](const In& in) { return avg_pool(in[0], 2); },
                    [H = H, W = W, Ho, Wo](const Ref& in) {
                      Values out(static_cast<size_t>(2 * Ho * Wo * 3), 0.0);
                      for_each_element(
                          2, H, W, 3, [&](int64_t b, int64_t y, int64_t x, int64_t c, size_t at) {
                            const int64_t n = (std::min(H, y / 2 * 2 + 2) - y / 2 * 2) *
                                              (std::min(W, x / 2 * 2 + 2) - x / 2 * 2);
                            out[static_cast<size_t>(((b * Ho + y / 2) * Wo + x / 2) * 3 + c)] +=
                                in[0][at] / static_cast<double>(n);
                          });
                      return out;
                    }});
  }
  rows.push_back({"depthwise_conv3x3",
                  "",
                  {{{2, 4, 5, 3}}, {{3, 1, 3, 3}}, {{3}}},
                  [](const In& in) { return depthwise_conv3x3(in[0], in[1], in[2]); },
                  [](const Ref& in) {
                    Values out(2 * 4 * 5 * 3);
                    for_each_element(
                        2, 4, 5, 3, [&](int64_t b, int64_t y, int64_t x, int64_t c, size_t at) {
                          out[at] = in[2][static_cast<size_t>(c)];
                          for (int64_t t = 0; t < 9; ++t) {
                            const int64_t yi = y + t / 3 - 1, xi = x + t % 3 - 1;
                            if (yi < 0 || yi >= 4 || xi < 0 || xi >= 5) continue;
                            out[at] += in[0][static_cast<size_t>(((b * 4 + yi) * 5 + xi) * 3 + c)] *
                                       in[1][static_cast<size_t>(c * 9 + t)];
                          }
                        });
                    return out;
                  }});
  rows.push_back(conv_row("3x3", 5, 4, 3, 1, 1));
  rows.push_back(conv_row("strided", 5, 6, 3, 2, 1));
  rows.push_back(conv_row("dilated", 6, 6, 3, 1, 2));
  return rows;
}

}  // namespace mullion::test
