// Rows of autograd/ops/norm.cc.
#include <cmath>

#include "tests/autograd/op_table.h"

namespace mullion::test {
namespace {

using In = std::vector<Tensor>;
using Ref = std::vector<Values>;

Values rms_reference(const Ref& in, size_t width) {
  Values y = in[0];
  for (size_t r = 0; r < y.size(); r += width) {
    double squares = 0;
    for (size_t i = 0; i < width; ++i) squares += in[0][r + i] * in[0][r + i];
    for (size_t i = 0; i < width; ++i)
      y[r + i] *= in[1][i] / std::sqrt(squares / static_cast<double>(width) + 1e-5);
  }
  return y;
}

Values layer_reference(const Ref& in, size_t width) {
  Values y = in[0];
  const double n = static_cast<double>(width);
  for (size_t r = 0; r < y.size(); r += width) {
    double mean = 0, variance = 0;
    for (size_t i = 0; i < width; ++i) mean += in[0][r + i] / n;
    for (size_t i = 0; i < width; ++i) variance += std::pow(in[0][r + i] - mean, 2) / n;
    for (size_t i = 0; i < width; ++i)
      y[r + i] = (y[r + i] - mean) / std::sqrt(variance + 1e-5) * in[1][i] + in[2][i];
  }
  return y;
}

}  // namespace

std::vector<OpRow> norm_rows() {
  std::vector<OpRow> rows;
  for (const int64_t width : {1, 7, 64, 100}) {
    const size_t w = static_cast<size_t>(width);
    const std::string variant = "width_" + std::to_string(width);
    // A row of one element is 1 or -1 but for eps: its gradient is what is left of two terms of the
    // size of g that cancel, and f32 keeps 1e-7 of each.
    const double tolerance = width == 1 ? 1e-4 : 1e-5;
    rows.push_back({"rms_norm",
                    variant,
                    {{{2, 5, width}}, {{width}}},
                    [](const In& in) { return rms_norm(in[0], in[1], 1e-5); },
                    [w](const Ref& in) { return rms_reference(in, w); },
                    tolerance});
    if (width > 1)
      rows.push_back({"layer_norm",
                      variant,
                      {{{9, width}}, {{width}}, {{width}}},
                      [](const In& in) { return layer_norm(in[0], in[1], in[2], 1e-5); },
                      [w](const Ref& in) { return layer_reference(in, w); }});
  }
  rows.push_back({"softmax",
                  "",
                  {{{4, 23}, true, -4, 4}},
                  [](const In& in) { return softmax(in[0]); },
                  [](const Ref& in) {
                    Values y = in[0];
                    for (size_t r = 0; r < y.size(); r += 23) {
                      double total = 0;
                      for (size_t i = 0; i < 23; ++i) total += y[r + i] = std::exp(y[r + i]);
                      for (size_t i = 0; i < 23; ++i) y[r + i] /= total;
                    }
                    return y;
                  }});
  const auto in_place = [](const In& in) {
    const Tensor x = affine(in[0], 1), y = rope_in_place(x, in[1], in[2]);
    CHECK(y.impl().storage == x.impl().storage, "rope_in_place: wrote elsewhere");
    return affine(y, 1);  // whose gradient is nobody else's, and turned in place as well
  };
  for (const int64_t D : {2, 6, 32}) {
    OpRow turning{"rope",
                  "head_" + std::to_string(D),
                  {{{2, 3, 2, D}}, {{3, D / 2}, false}, {{3, D / 2}, false}},
                  [](const In& in) { return rope(in[0], in[1], in[2]); },
                  [D](const Ref& in) {
                    Values y = in[0];
                    const size_t half = static_cast<size_t>(D / 2);
                    for (size_t row = 0; row < 12; ++row)
                      for (size_t i = 0; i < half; ++i) {
                        const size_t t = row / 2 % 3, at = row * 2 * half + i;
                        const double c = in[1][t * half + i], s = in[2][t * half + i];
                        y[at] = in[0][at] * c - in[0][at + half] * s;
                        y[at + half] = in[0][at + half] * c + in[0][at] * s;
                      }
                    return y;
                  }};
    rows.push_back(turning);
    // The gradient of a sum is that of both its parts, so it must stay as it is.
    OpRow shared = turning;
    shared.variant += "_in_a_sum";
    shared.call = [](const In& in) { return add(in[0], rope(in[0], in[1], in[2])); };
    shared.reference = [turn = turning.reference](const Ref& in) {
      Values y = turn(in);
      for (size_t i = 0; i < y.size(); ++i) y[i] += in[0][i];
      return y;
    };
    rows.push_back(shared);
    turning.op = "rope_in_place";
    turning.call = in_place;
    rows.push_back(turning);
  }
  return rows;
}

}  // namespace mullion::test
