// Pooling, depthwise convolution and patches: forwards against plain loops written here, backwards
// as transposes (<A x, g> = <x, A^T g> for the linear ones), in f32 and f64, outputs full of NaN.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tensor/check.h"
#include "tensor/cpu/kernels.h"

namespace mullion {
namespace {

template <typename T>
class Pooling : public testing::Test {
 public:
  static constexpr DType kType = std::is_same_v<T, float> ? DType::f32 : DType::f64;
  static constexpr double kTolerance = std::is_same_v<T, float> ? 1e-5 : 1e-13;

  std::vector<T> random(int64_t n) {
    std::vector<T> values(static_cast<size_t>(n));
    for (T& value : values) value = static_cast<T>(normal_(engine_));
    return values;
  }
  static std::vector<T> unwritten(int64_t n) {
    return std::vector<T>(static_cast<size_t>(n), std::numeric_limits<T>::quiet_NaN());
  }
  static double dot(const std::vector<T>& a, const std::vector<T>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
    return sum;
  }
  static void expect_equal_dots(double a, double b) {
    EXPECT_NEAR(a, b, 10 * kTolerance * (1 + std::abs(a)));
  }

 private:
  std::mt19937 engine_{3};
  std::normal_distribution<double> normal_;
};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(Pooling, Types);

struct Map {
  int64_t b, h, w, c;
  operator MapSize() const { return {b, h, w, c}; }
  int64_t size() const { return b * h * w * c; }
  size_t at(int64_t n, int64_t y, int64_t x, int64_t k) const {
    return static_cast<size_t>(((n * h + y) * w + x) * c + k);
  }
};
constexpr Map kMaps[] = {{2, 4, 6, 3}, {2, 5, 7, 8}, {1, 1, 9, 4}, {3, 1, 1, 2}, {1, 33, 32, 17}};

TYPED_TEST(Pooling, MaxTakesTheLargestAndSendsTheGradientThere) {
  using T = TypeParam;
  for (const Map& m : kMaps) {
    const Map out{m.b, (m.h + 1) / 2, (m.w + 1) / 2, m.c};
    const std::vector<T> x = this->random(m.size()), g = this->random(out.size());
    std::vector<T> y = this->unwritten(out.size()), dx = this->unwritten(m.size());
    std::vector<uint8_t> chosen(static_cast<size_t>(out.size()), 255);
    cpu::max_pool2(
        {.dtype = this->kType, .map = m, .x = x.data(), .y = y.data(), .chosen = chosen.data()});
    cpu::max_pool2_backward({.dtype = this->kType,
                             .map = m,
                             .grad_y = g.data(),
                             .chosen = chosen.data(),
                             .dx = dx.data()});
    std::vector<T> expected(x.size(), T(0));
    for (int64_t b = 0; b < m.b; ++b)
      for (int64_t i = 0; i < out.h; ++i)
        for (int64_t j = 0; j < out.w; ++j)
          for (int64_t c = 0; c < m.c; ++c) {
            size_t best = m.at(b, 2 * i, 2 * j, c);
            for (int64_t t = 1; t < 4; ++t)
              if (2 * i + t / 2 < m.h && 2 * j + t % 2 < m.w) {
                const size_t other = m.at(b, 2 * i + t / 2, 2 * j + t % 2, c);
                if (x[other] > x[best]) best = other;
              }
            ASSERT_EQ(y[out.at(b, i, j, c)], x[best]);
            expected[best] = g[out.at(b, i, j, c)];
          }
    EXPECT_EQ(dx, expected);
  }
}

TYPED_TEST(Pooling, MaxKeepsNaN) {
  using T = TypeParam;
  const T nan = std::numeric_limits<T>::quiet_NaN();
  for (int64_t place = 0; place < 4; ++place) {
    std::vector<T> x = {1, 2, 3, 4}, y(1);
    x[static_cast<size_t>(place)] = nan;
    cpu::max_pool2({.dtype = this->kType,
                    .map = {1, 2, 2, 1},
                    .x = x.data(),
                    .y = y.data(),
                    .chosen = nullptr});
    EXPECT_TRUE(std::isnan(y[0])) << place;
  }
}

TYPED_TEST(Pooling, AverageDividesByThePixelsThere) {
  using T = TypeParam;
  for (const Map& m : kMaps)
    for (int64_t r : {1, 2, 3}) {
      const Map out{m.b, (m.h + r - 1) / r, (m.w + r - 1) / r, m.c};
      const std::vector<T> x = this->random(m.size()), g = this->random(out.size());
      std::vector<T> y = this->unwritten(out.size()), dx = this->unwritten(m.size());
      cpu::average_pool({.dtype = this->kType,
                         .map = m,
                         .ratio = r,
                         .x = x.data(),
                         .y = y.data(),
                         .x_stride = m.c,
                         .y_stride = m.c});
      cpu::average_pool_backward({.dtype = this->kType,
                                  .map = m,
                                  .ratio = r,
                                  .grad_y = g.data(),
                                  .dx = dx.data(),
                                  .grad_y_stride = m.c,
                                  .dx_stride = m.c});
      for (int64_t b = 0; b < m.b; ++b)
        for (int64_t i = 0; i < out.h; ++i)
          for (int64_t j = 0; j < out.w; ++j)
            for (int64_t c = 0; c < m.c; ++c) {
              double sum = 0, n = 0;
              for (int64_t s = i * r; s < std::min(m.h, (i + 1) * r); ++s)
                for (int64_t t = j * r; t < std::min(m.w, (j + 1) * r); ++t, ++n)
                  sum += x[m.at(b, s, t, c)];
              ASSERT_NEAR(y[out.at(b, i, j, c)], sum / n, this->kTolerance);
            }
      this->expect_equal_dots(this->dot(y, g), this->dot(x, dx));
    }
}

TYPED_TEST(Pooling, AverageOfPackedPixels) {
  using T = TypeParam;
  const Map m{1, 3, 4, 2};
  const std::vector<T> x = this->random(m.size());
  std::vector<T> packed(static_cast<size_t>(m.size()) * 3), y = this->unwritten(4 * 5), plain(8);
  for (size_t i = 0; i < x.size(); ++i) packed[i / 2 * 6 + 2 + i % 2] = x[i];
  cpu::average_pool({.dtype = this->kType,
                     .map = {1, 3, 4, 2},
                     .ratio = 2,
                     .x = packed.data() + 2,
                     .y = y.data(),
                     .x_stride = 6,
                     .y_stride = 5});
  cpu::average_pool({.dtype = this->kType,
                     .map = {1, 3, 4, 2},
                     .ratio = 2,
                     .x = x.data(),
                     .y = plain.data(),
                     .x_stride = 2,
                     .y_stride = 2});
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_EQ(y[i / 2 * 5 + i % 2], plain[i]);
  EXPECT_TRUE(std::isnan(y[2]));
}

TYPED_TEST(Pooling, DepthwiseConvolution) {
  using T = TypeParam;
  for (const Map& m : kMaps) {
    const std::vector<T> x = this->random(m.size()), g = this->random(m.size());
    const std::vector<T> weight = this->random(9 * m.c), bias = this->random(m.c);
    const std::vector<T> zero(static_cast<size_t>(m.c), T(0));
    std::vector<T> y = this->unwritten(m.size()), linear = y, dx = y;
    std::vector<T> dweight = this->unwritten(9 * m.c), dbias = this->unwritten(m.c);
    cpu::depthwise_conv3({.dtype = this->kType,
                          .map = m,
                          .x = x.data(),
                          .weight = weight.data(),
                          .bias = bias.data(),
                          .y = y.data()});
    cpu::depthwise_conv3({.dtype = this->kType,
                          .map = m,
                          .x = x.data(),
                          .weight = weight.data(),
                          .bias = nullptr,
                          .y = linear.data()});
    cpu::depthwise_conv3_backward({.dtype = this->kType,
                                   .map = m,
                                   .x = x.data(),
                                   .weight = weight.data(),
                                   .grad_y = g.data(),
                                   .dx = dx.data(),
                                   .dweight = dweight.data(),
                                   .dbias = dbias.data()});
    std::vector<double> bias_sums(static_cast<size_t>(m.c), 0.0);
    for (int64_t b = 0; b < m.b; ++b)
      for (int64_t i = 0; i < m.h; ++i)
        for (int64_t j = 0; j < m.w; ++j)
          for (int64_t c = 0; c < m.c; ++c) {
            double sum = bias[static_cast<size_t>(c)];
            for (int64_t t = 0; t < 9; ++t) {
              const int64_t s = i + t / 3 - 1, u = j + t % 3 - 1;
              if (s >= 0 && s < m.h && u >= 0 && u < m.w)
                sum += static_cast<double>(weight[static_cast<size_t>(9 * c + t)]) *
                       x[m.at(b, s, u, c)];
            }
            ASSERT_NEAR(y[m.at(b, i, j, c)], sum, 10 * this->kTolerance);
            bias_sums[static_cast<size_t>(c)] += g[m.at(b, i, j, c)];
          }
    this->expect_equal_dots(this->dot(linear, g), this->dot(x, dx));
    this->expect_equal_dots(this->dot(linear, g), this->dot(weight, dweight));
    for (size_t c = 0; c < bias_sums.size(); ++c)
      EXPECT_NEAR(dbias[c], bias_sums[c], 100 * this->kTolerance);
  }
}

TYPED_TEST(Pooling, Im2ColAndBack) {
  using T = TypeParam;
  struct Case {
    Map map;
    int64_t kh, kw, stride, pad_h, pad_w, dilation;
  };
  for (const Case& k : {Case{{2, 8, 8, 3}, 4, 4, 4, 0, 0, 1}, Case{{1, 7, 5, 2}, 3, 3, 1, 1, 1, 1},
                        Case{{2, 9, 6, 4}, 3, 5, 2, 1, 2, 1}, Case{{1, 6, 6, 1}, 3, 3, 1, 2, 2, 2},
                        Case{{1, 5, 5, 2}, 2, 2, 3, 0, 0, 1}}) {
    const PatchGeometry p{k.map.b, k.map.h,  k.map.w, k.map.c, k.kh,
                          k.kw,    k.stride, k.pad_h, k.pad_w, k.dilation};
    const int64_t rows = p.batch * p.out_height() * p.out_width();
    const std::vector<T> x = this->random(k.map.size()), g = this->random(rows * p.row_size());
    std::vector<T> cols = this->unwritten(rows * p.row_size()), dx = this->unwritten(k.map.size());
    cpu::im2col({.dtype = this->kType, .geometry = p, .x = x.data(), .rows = cols.data()});
    cpu::col2im({.dtype = this->kType, .geometry = p, .rows = g.data(), .x = dx.data()});
    size_t at = 0;
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t i = 0; i < k.kh; ++i)
        for (int64_t j = 0; j < k.kw; ++j)
          for (int64_t c = 0; c < k.map.c; ++c, ++at) {
            const int64_t oy = row / p.out_width() % p.out_height(), ox = row % p.out_width();
            const int64_t y = oy * k.stride + i * k.dilation - k.pad_h;
            const int64_t s = ox * k.stride + j * k.dilation - k.pad_w;
            const bool inside = y >= 0 && y < k.map.h && s >= 0 && s < k.map.w;
            const int64_t b = row / (p.out_height() * p.out_width());
            ASSERT_EQ(cols[at], inside ? x[k.map.at(b, y, s, c)] : T(0));
          }
    this->expect_equal_dots(this->dot(cols, g), this->dot(x, dx));
  }
  EXPECT_THROW(check_patches({1, 2, 2, 1, 5, 5, 1, 1, 1, 1}), Error);
  EXPECT_THROW(check_patches({1, 2, 2, 1, 2, 2, 0, 0, 0, 1}), Error);
}

}  // namespace
}  // namespace mullion
