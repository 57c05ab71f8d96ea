// Normalisations, rotary embedding, softmax, losses and lookups of the table against plain loops in
// double.
#include <gtest/gtest.h>

#include <cmath>

#include "tensor/kernel_table.h"
#include "tensor/tensor.h"
#include "tests/kernel_buffer.h"

namespace mullion::test {
namespace {

const KernelTable& table() { return kernels({}); }
struct Size {
  int64_t rows, width;
};
constexpr Size kSizes[] = {{1, 1}, {3, 5}, {7, 16}, {200, 33}, {5, 576}, {700, 96}, {2, 5003}};

template <typename T>
class Rows : public ::testing::Test {};
using FloatTypes = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Rows, FloatTypes);

// Central difference of `f` in each value of x: the oracle of every backward below.
template <typename F>
std::vector<double> slopes(std::vector<double> x, F f) {
  std::vector<double> result;
  for (double& value : x) {
    const double kept = value, h = 1e-5;
    value = kept + h;
    const double up = f(x);
    value = kept - h;
    result.push_back((up - f(x)) / (2 * h));
    value = kept;
  }
  return result;
}
template <typename T>
std::vector<double> row_of(Buffer<T>& b, int64_t r, int64_t width) {
  return {b.data() + r * width, b.data() + (r + 1) * width};
}

std::vector<double> rms_norm_row(const std::vector<double>& x, const std::vector<double>& w) {
  double squares = 0;
  for (double v : x) squares += v * v;
  const double rstd = 1 / std::sqrt(squares / static_cast<double>(x.size()) + 1e-5);
  std::vector<double> y;
  for (size_t i = 0; i < x.size(); ++i) y.push_back(x[i] * rstd * w[i]);
  return y;
}
std::vector<double> layer_norm_row(const std::vector<double>& x, const std::vector<double>& w,
                                   const std::vector<double>& b) {
  double mean = 0, squares = 0;
  for (double v : x) mean += v / static_cast<double>(x.size());
  for (double v : x) squares += (v - mean) * (v - mean);
  const double rstd = 1 / std::sqrt(squares / static_cast<double>(x.size()) + 1e-5);
  std::vector<double> y;
  for (size_t i = 0; i < x.size(); ++i) y.push_back((x[i] - mean) * rstd * w[i] + b[i]);
  return y;
}
double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

TYPED_TEST(Rows, RmsNorm) {
  using T = TypeParam;
  for (auto [rows, width] : kSizes) {
    Buffer<T> x(rows * width, 1, -2, 2), w(width, 2), g(rows * width, 3), y(rows * width);
    Buffer<T> rstd(rows), dx(rows * width), dw(width), only(rows * width);
    const DType type = dtype_of<T>();
    table().rms_norm({.x = x.data(),
                      .weight = w.data(),
                      .y = y.data(),
                      .rstd = rstd.data(),
                      .dtype = type,
                      .rows = rows,
                      .width = width,
                      .eps = 1e-5});
    RmsNormBackwardArgs grad{.x = x.data(),
                             .weight = w.data(),
                             .rstd = rstd.data(),
                             .g = g.data(),
                             .dx = dx.data(),
                             .dweight = dw.data(),
                             .dtype = type,
                             .rows = rows,
                             .width = width};
    table().rms_norm_backward(grad);
    grad.dx = only.data(), grad.dweight = nullptr;
    table().rms_norm_backward(grad);
    EXPECT_EQ(dx.values(), only.values());
    const auto weights = row_of(w, 0, width), ones = std::vector<double>(weights.size(), 1.0);
    std::vector<double> dweight(weights.size());
    for (int64_t r = 0; r < rows; ++r) {
      const auto xs = row_of(x, r, width), gs = row_of(g, r, width);
      const auto expected = rms_norm_row(xs, weights), z = rms_norm_row(xs, ones);
      for (int64_t i = 0; i < width; ++i) {
        const auto at = static_cast<size_t>(i);
        expect_close(double{y[r * width + i]}, expected[at], 2 * tolerance_of<T>(), i);
        dweight[at] += gs[at] * z[at];
      }
      if (r > 3 || width > 100) continue;
      const auto dxs = slopes(xs, [&](const auto& v) { return dot(gs, rms_norm_row(v, weights)); });
      for (int64_t i = 0; i < width; ++i)
        expect_close(double{dx[r * width + i]}, dxs[static_cast<size_t>(i)],
                     sizeof(T) == 4 ? 1e-5 : 1e-7, i);
    }
    for (int64_t i = 0; i < width; ++i)
      expect_close(double{dw[i]}, dweight[static_cast<size_t>(i)], 10 * tolerance_of<T>(), i);
  }
}

TYPED_TEST(Rows, LayerNorm) {
  using T = TypeParam;
  for (auto [rows, width] : kSizes) {
    Buffer<T> x(rows * width, 1, 9, 12), w(width, 2), b(width, 4), g(rows * width, 3);
    Buffer<T> y(rows * width), mean(rows), rstd(rows), dx(rows * width), dw(width), db(width);
    Buffer<T> only(rows * width), bias_only(width);
    const DType type = dtype_of<T>();
    table().layer_norm({.x = x.data(),
                        .weight = w.data(),
                        .bias = b.data(),
                        .y = y.data(),
                        .mean = mean.data(),
                        .rstd = rstd.data(),
                        .dtype = type,
                        .rows = rows,
                        .width = width,
                        .eps = 1e-5});
    LayerNormBackwardArgs grad{.x = x.data(),
                               .weight = w.data(),
                               .mean = mean.data(),
                               .rstd = rstd.data(),
                               .g = g.data(),
                               .dx = dx.data(),
                               .dweight = dw.data(),
                               .dbias = db.data(),
                               .dtype = type,
                               .rows = rows,
                               .width = width};
    table().layer_norm_backward(grad);
    grad.dweight = nullptr, grad.dx = nullptr, grad.dbias = bias_only.data();
    table().layer_norm_backward(grad);
    grad.dbias = nullptr, grad.dx = only.data();
    table().layer_norm_backward(grad);
    EXPECT_EQ(dx.values(), only.values());
    EXPECT_EQ(db.values(), bias_only.values());
    const auto ws = row_of(w, 0, width), bs = row_of(b, 0, width);
    const std::vector<double> ones(ws.size(), 1.0), zeros(ws.size());
    std::vector<double> dweight(ws.size()), dbias(ws.size());
    // The mean of x is ten times its spread, which f32 pays for.
    const double tolerance = sizeof(T) == 4 ? 2e-5 : 1e-12;
    for (int64_t r = 0; r < rows; ++r) {
      const auto xs = row_of(x, r, width), gs = row_of(g, r, width);
      const auto expected = layer_norm_row(xs, ws, bs), z = layer_norm_row(xs, ones, zeros);
      for (int64_t i = 0; i < width; ++i) {
        const auto at = static_cast<size_t>(i);
        expect_close(double{y[r * width + i]}, expected[at], tolerance, i);
        dweight[at] += gs[at] * z[at];
        dbias[at] += gs[at];
      }
      if (r > 3 || width > 100) continue;
      const auto dxs =
          slopes(xs, [&](const auto& v) { return dot(gs, layer_norm_row(v, ws, bs)); });
      for (int64_t i = 0; i < width; ++i)
        expect_close(double{dx[r * width + i]}, dxs[static_cast<size_t>(i)],
                     sizeof(T) == 4 ? 5e-5 : 1e-6, i);
    }
    for (int64_t i = 0; i < width; ++i) {
      expect_close(double{dw[i]}, dweight[static_cast<size_t>(i)], 5 * tolerance, i);
      expect_close(double{db[i]}, dbias[static_cast<size_t>(i)], 10 * tolerance_of<T>(), i);
    }
  }
}

TYPED_TEST(Rows, RopeTurnsAndTurnsBack) {
  using T = TypeParam;
  for (int64_t head_dim : {2, 10, 64}) {
    const int64_t batch = 2, tokens = 7, heads = 3, half = head_dim / 2;
    const int64_t n = batch * tokens * heads * head_dim;
    Buffer<T> x(n, 1), c(tokens * half), s(tokens * half), y(n), back(n);
    for (int64_t i = 0; i < tokens * half; ++i) {
      const double angle = 0.37 * static_cast<double>(i);
      c[i] = static_cast<T>(std::cos(angle));
      s[i] = static_cast<T>(std::sin(angle));
    }
    const DType type = dtype_of<T>();
    RopeArgs args{.x = x.data(),
                  .cos = c.data(),
                  .sin = s.data(),
                  .y = y.data(),
                  .dtype = type,
                  .batch = batch,
                  .tokens = tokens,
                  .heads = heads,
                  .head_dim = head_dim,
                  .inverse = false};
    table().rope(args);
    args.x = y.data(), args.y = back.data(), args.inverse = true;
    table().rope(args);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t d = i % head_dim, token = i / (heads * head_dim) % tokens;
      const int64_t angle = token * half + d % half;
      const double cosine = double{c[angle]}, sine = double{s[angle]};
      const double expected = d < half ? double{x[i]} * cosine - double{x[i + half]} * sine
                                       : double{x[i]} * cosine + double{x[i - half]} * sine;
      expect_close(double{y[i]}, expected, tolerance_of<T>(), i);
      expect_close(double{back[i]}, double{x[i]}, tolerance_of<T>(), i);
    }
  }
}

TYPED_TEST(Rows, Softmax) {
  using T = TypeParam;
  for (auto [rows, width] : kSizes) {
    Buffer<T> x(rows * width, 1, -30, 30), y(rows * width), g(rows * width, 2), dx(rows * width);
    table().softmax(
        {.x = x.data(), .y = y.data(), .dtype = dtype_of<T>(), .rows = rows, .width = width});
    table().softmax_backward({.y = y.data(),
                              .g = g.data(),
                              .dx = dx.data(),
                              .dtype = dtype_of<T>(),
                              .rows = rows,
                              .width = width});
    for (int64_t r = 0; r < rows; ++r) {
      auto p = row_of(x, r, width);
      const double largest = *std::max_element(p.begin(), p.end());
      double sum = 0;
      for (double& v : p) sum += v = std::exp(v - largest);
      for (double& v : p) v /= sum;
      const auto gs = row_of(g, r, width);
      const double mean = dot(p, gs);
      for (int64_t i = 0; i < width; ++i) {
        const auto at = static_cast<size_t>(i);
        expect_close(double{y[r * width + i]}, p[at], tolerance_of<T>(), i);
        expect_close(double{dx[r * width + i]}, p[at] * (gs[at] - mean), tolerance_of<T>(), i);
      }
    }
  }
}

TYPED_TEST(Rows, CrossEntropy) {
  using T = TypeParam;
  for (auto [rows, width] : kSizes) {
    Buffer<T> x(rows * width, 1, -9, 9), grad(rows * width, 1, -9, 9), loss(rows), again(rows);
    std::vector<int64_t> targets;
    for (int64_t r = 0; r < rows; ++r) targets.push_back(r % 5 == 3 ? -100 : r * 31 % width);
    const auto before = x.values();
    const DType type = dtype_of<T>();
    CrossEntropyArgs args{.logits = x.data(),
                          .targets = targets.data(),
                          .loss = loss.data(),
                          .dtype = type,
                          .rows = rows,
                          .width = width,
                          .write_grad = false};
    table().cross_entropy(args);
    args.logits = grad.data(), args.loss = again.data(), args.write_grad = true;
    table().cross_entropy(args);
    EXPECT_EQ(x.values(), before);
    EXPECT_EQ(loss.values(), again.values());
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t target = targets[static_cast<size_t>(r)];
      double sum = 0;
      for (double v : row_of(x, r, width)) sum += std::exp(v);
      const double expected = target < 0 ? 0 : std::log(sum) - double{x[r * width + target]};
      expect_close(double{loss[r]}, expected, 2 * tolerance_of<T>(), r);
      for (int64_t i = 0; i < width; ++i) {
        const double p = std::exp(double{x[r * width + i]}) / sum - (i == target);
        expect_close(double{grad[r * width + i]}, target < 0 ? 0 : p, tolerance_of<T>(), i);
      }
    }
  }
}

TYPED_TEST(Rows, SoftCrossEntropy) {
  using T = TypeParam;
  for (auto [rows, width] : kSizes) {
    Buffer<T> x(rows * width, 1, -9, 9), p(rows * width, 2, 0, 1), loss(rows), dx(rows * width);
    Buffer<T> loss_only(rows);
    const DType type = dtype_of<T>();
    SoftCrossEntropyArgs args{.logits = x.data(),
                              .probabilities = p.data(),
                              .loss = loss.data(),
                              .dlogits = dx.data(),
                              .dtype = type,
                              .rows = rows,
                              .width = width};
    table().soft_cross_entropy(args);
    args.loss = loss_only.data(), args.dlogits = nullptr;
    table().soft_cross_entropy(args);
    EXPECT_EQ(loss.values(), loss_only.values());
    for (int64_t r = 0; r < rows; ++r) {
      const auto xs = row_of(x, r, width), ps = row_of(p, r, width);
      double sum = 0, total = 0;
      for (double v : xs) sum += std::exp(v);
      for (double v : ps) total += v;
      expect_close(double{loss[r]}, std::log(sum) * total - dot(ps, xs), 20 * tolerance_of<T>(), r);
      for (int64_t i = 0; i < width; ++i) {
        const auto at = static_cast<size_t>(i);
        expect_close(double{dx[r * width + i]}, std::exp(xs[at]) / sum * total - ps[at],
                     4 * tolerance_of<T>(), i);
      }
    }
  }
}

TYPED_TEST(Rows, EmbeddingAndItsGradient) {
  using T = TypeParam;
  for (int64_t width : {1, 17, 576}) {
    const int64_t rows = 29, count = 300;
    Buffer<T> weights(rows * width, 1), y(count * width), g(count * width, 2), d(rows * width);
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < count; ++i) ids.push_back(i * i % (rows - 1));
    const DType type = dtype_of<T>();
    table().embedding({.table = weights.data(),
                       .table_type = type,
                       .ids = ids.data(),
                       .y = y.data(),
                       .dtype = type,
                       .count = count,
                       .rows = rows,
                       .width = width});
    table().embedding_backward({.g = g.data(),
                                .ids = ids.data(),
                                .dtable = d.data(),
                                .dtype = type,
                                .count = count,
                                .rows = rows,
                                .width = width});
    std::vector<T> expected(static_cast<size_t>(rows * width));
    for (int64_t i = 0; i < count * width; ++i) {
      const int64_t at = ids[static_cast<size_t>(i / width)] * width + i % width;
      EXPECT_EQ(y[i], weights[at]);
      expected[static_cast<size_t>(at)] += g[i];
    }
    EXPECT_EQ(d.values(), expected);  // the order of the ids, to the bit
  }
}

TEST(Rows, EmbeddingWidensBf16) {
  Buffer<bf16> weights(20);
  for (int64_t i = 0; i < 20; ++i) weights[i] = bf16(0.3f * static_cast<float>(i));
  Buffer<float> y(15);
  const int64_t ids[] = {3, 0, 2};
  table().embedding({.table = weights.data(),
                     .table_type = DType::bf16,
                     .ids = ids,
                     .y = y.data(),
                     .dtype = DType::f32,
                     .count = 3,
                     .rows = 4,
                     .width = 5});
  for (int64_t i = 0; i < 15; ++i)
    EXPECT_EQ(y[i], static_cast<float>(weights[ids[i / 5] * 5 + i % 5]));
}

}  // namespace
}  // namespace mullion::test
