// MSA-Conv on the CPU against the oracle of reference_msa_conv.h, and the oracle itself against
// central differences and the laws that docs/tic.md states for the operator.
#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <string>

#include "tensor/check.h"
#include "tensor/cpu/kernels.h"
#include "tensor/parallel.h"
#include "tests/reference_msa_conv.h"

namespace mullion {
namespace {

using test::MsaReference;

std::vector<double> random_values(size_t n, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  std::vector<double> values(n);
  // Rounded to f32, so that both types start from the same numbers.
  for (double& value : values) value = static_cast<float>(normal(engine));
  return values;
}

MsaReference random_case(MsaConvGeometry g, uint64_t seed = 1) {
  if (g.scale == 1.0) g.scale = 1.0 / std::sqrt(static_cast<double>(g.head_dim));
  const auto c = static_cast<size_t>(g.heads * g.head_dim);
  const size_t pixels = static_cast<size_t>(g.batch * g.height * g.width) * c;
  const size_t keys = static_cast<size_t>(g.batch * g.key_height() * g.key_width()) * c;
  MsaReference r{g,
                 random_values(pixels, seed),
                 random_values(keys, seed + 1),
                 random_values(keys, seed + 2),
                 {},
                 {},
                 {},
                 {},
                 {}};
  return r;
}

std::string name(const MsaConvGeometry& g) {
  return concat("b", g.batch, " ", g.height, "x", g.width, " heads ", g.heads, " of ", g.head_dim,
                " kernel ", g.kernel_h, "x", g.kernel_w, " dilation ", g.dilation, " border ",
                static_cast<int>(g.border), " shift ", static_cast<int>(g.shift), " by ",
                g.shift_size, " pool ", g.pool, " dropout ", g.dropout);
}

template <typename T>
struct Result {
  std::vector<T> o, lse, dq, dk, dv;
};

// Pixels `stride` apart in a buffer of NaNs, so that a read or a missing write out of place shows.
template <typename T>
std::vector<T> spread(const std::vector<double>& map, int64_t channels, int64_t stride) {
  const auto c = static_cast<size_t>(channels), s = static_cast<size_t>(stride);
  std::vector<T> out(map.size() / c * s, std::numeric_limits<T>::quiet_NaN());
  for (size_t i = 0; i < map.size(); ++i) out[i / c * s + i % c] = static_cast<T>(map[i]);
  return out;
}
template <typename T>
std::vector<T> gathered(const std::vector<T>& map, int64_t channels, int64_t stride) {
  const auto c = static_cast<size_t>(channels), s = static_cast<size_t>(stride);
  std::vector<T> out(map.size() / s * c);
  for (size_t i = 0; i < out.size(); ++i) out[i] = map[i / c * s + i % c];
  for (size_t i = 0; i < map.size(); ++i)
    EXPECT_TRUE(i % s < c || std::isnan(map[i])) << "written beside the channels, at " << i;
  return out;
}

template <typename T>
Result<T> run(const MsaReference& r, const std::vector<double>& grad_o, int64_t padding = 0) {
  constexpr DType kType = std::is_same_v<T, float> ? DType::f32 : DType::f64;
  const int64_t c = r.channels(), stride = c + padding;
  const auto s = static_cast<size_t>(stride), n = static_cast<size_t>(c);
  const T nan = std::numeric_limits<T>::quiet_NaN();
  const std::vector<T> q = spread<T>(r.q, c, stride), k = spread<T>(r.k, c, stride),
                       v = spread<T>(r.v, c, stride), grad = spread<T>(grad_o, c, stride);
  std::vector<T> o(r.q.size() / n * s, nan);
  std::vector<T> dq = o, dk(r.k.size() / n * s, nan), dv = dk;
  std::vector<T> lse(r.q.size() / static_cast<size_t>(r.g.head_dim), nan);
  cpu::msa_conv({.geometry = r.g,
                 .dtype = kType,
                 .q = q.data(),
                 .k = k.data(),
                 .v = v.data(),
                 .q_stride = stride,
                 .k_stride = stride,
                 .v_stride = stride,
                 .o = o.data(),
                 .o_stride = stride,
                 .lse = lse.data()});
  cpu::msa_conv_backward({.geometry = r.g,
                          .dtype = kType,
                          .q = q.data(),
                          .k = k.data(),
                          .v = v.data(),
                          .q_stride = stride,
                          .k_stride = stride,
                          .v_stride = stride,
                          .o = o.data(),
                          .lse = lse.data(),
                          .grad_o = grad.data(),
                          .o_stride = stride,
                          .grad_o_stride = stride,
                          .dq = dq.data(),
                          .dk = dk.data(),
                          .dv = dv.data(),
                          .dq_stride = stride,
                          .dk_stride = stride,
                          .dv_stride = stride});
  return {gathered(o, c, stride), lse, gathered(dq, c, stride), gathered(dk, c, stride),
          gathered(dv, c, stride)};
}

template <typename T>
void expect_close(const std::vector<T>& actual, const std::vector<double>& expected,
                  double tolerance, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double largest = 0, error = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    if (std::isinf(expected[i])) continue;  // the log-sum-exp of a query that sees no key
    ASSERT_TRUE(std::isfinite(actual[i])) << what << " at " << i;
    largest = std::max(largest, std::abs(expected[i]));
    error = std::max(error, std::abs(static_cast<double>(actual[i]) - expected[i]));
  }
  EXPECT_LE(error, tolerance * (1 + largest)) << what;
}

template <typename T>
void check_against_oracle(const MsaConvGeometry& g, double tolerance, int64_t padding) {
  MsaReference r = random_case(g);
  const std::vector<double> grad = random_values(r.q.size(), 9);
  r.forward();
  r.backward(grad);
  const Result<T> result = run<T>(r, grad, padding);
  expect_close(result.o, r.o, tolerance, "o of " + name(g));
  expect_close(result.lse, r.lse, tolerance, "lse of " + name(g));
  expect_close(result.dq, r.dq, tolerance, "dq of " + name(g));
  expect_close(result.dk, r.dk, tolerance, "dk of " + name(g));
  expect_close(result.dv, r.dv, tolerance, "dv of " + name(g));
}

void check_both_types(const MsaConvGeometry& g) {
  check_against_oracle<double>(g, 1e-13, 3);
  check_against_oracle<float>(g, 1e-5, 5);
}

MsaConvGeometry geometry(int64_t height, int64_t width, int64_t heads, int64_t head_dim, int64_t kh,
                         int64_t kw, int64_t dilation = 1) {
  MsaConvGeometry g;
  g.batch = 2;
  g.height = height;
  g.width = width;
  g.heads = heads;
  g.head_dim = head_dim;
  g.kernel_h = kh;
  g.kernel_w = kw;
  g.dilation = dilation;
  return g;
}

TEST(MsaConv, KernelsDilationsHeadsAndBorders) {
  for (int64_t k : {1, 3, 5, 7})
    for (int64_t d : {1, 2, 3})
      for (auto [heads, head_dim] : {std::pair<int64_t, int64_t>{1, 8}, {4, 2}, {8, 1}})
        for (MsaBorder border : {MsaBorder::zero_logit, MsaBorder::masked}) {
          MsaConvGeometry g = geometry(9, 7, heads, head_dim, k, k, d);
          g.border = border;
          check_both_types(g);
        }
}

TEST(MsaConv, RectangularAndEvenKernels) {
  for (auto [kh, kw, d] :
       {std::array<int64_t, 3>{3, 5, 1}, {1, 7, 1}, {5, 1, 2}, {2, 3, 2}, {4, 4, 2}, {2, 2, 4}})
    for (MsaBorder border : {MsaBorder::zero_logit, MsaBorder::masked}) {
      MsaConvGeometry g = geometry(6, 8, 2, 4, kh, kw, d);
      g.border = border;
      check_both_types(g);
    }
}

TEST(MsaConv, MapsOfAnySize) {
  for (auto [h, w] : {std::pair<int64_t, int64_t>{1, 1},
                      {1, 9},
                      {9, 1},
                      {2, 3},
                      {4, 4},
                      {5, 21},
                      {17, 16},
                      {23, 18}})
    for (int64_t k : {3, 5, 7})
      for (int64_t c : {8, 16, 24, 32}) check_both_types(geometry(h, w, 2, c, k, k));
}

TEST(MsaConv, ShiftsOfHeadsAndOfChannelGroups) {
  for (int64_t heads : {1, 2, 3, 4, 6, 8})
    for (int64_t s : {0, 1, 3, 5, 20})
      for (int direction : {-1, 0, 1, 2, 3}) {
        MsaConvGeometry g = geometry(7, 6, heads, 8, 5, 5);
        g.shift = direction < 0 ? MsaShift::directions : MsaShift::one_direction;
        g.shift_size = s;
        g.direction = std::max(direction, 0);
        check_both_types(g);
      }
}

TEST(MsaConv, PooledKeys) {
  for (auto [h, w] : {std::pair<int64_t, int64_t>{8, 8}, {7, 9}, {1, 5}})
    for (int64_t pool : {2, 3})
      for (int64_t k : {3, 4})
        for (MsaBorder border : {MsaBorder::zero_logit, MsaBorder::masked}) {
          MsaConvGeometry g = geometry(h, w, 4, 8, k, k, k % 2 == 0 ? 2 : 1);
          g.border = border;
          g.pool = pool;
          g.shift = MsaShift::directions;
          g.shift_size = 2;
          check_both_types(g);
        }
}

TEST(MsaConv, DropoutOfProbabilities) {
  for (int64_t k : {3, 5})
    for (int64_t c : {3, 16}) {
      MsaConvGeometry g = geometry(8, 9, 4, c, k, k);
      g.shift = MsaShift::directions;
      g.shift_size = k;
      g.dropout = 0.3;
      g.seed = 7;
      g.stream = 11;
      check_both_types(g);
    }
}

TEST(MsaConv, ManyBandsOfALargeMap) {
  MsaConvGeometry g = geometry(61, 67, 4, 16, 7, 7);
  g.batch = 1;
  g.shift = MsaShift::directions;
  g.shift_size = 7;
  check_against_oracle<float>(g, 1e-5, 0);
  g.dilation = 2;
  g.kernel_h = g.kernel_w = 5;
  g.border = MsaBorder::masked;
  check_against_oracle<float>(g, 1e-5, 0);
}

TEST(MsaConv, LargeLogitsStayFinite) {
  MsaReference r = random_case(geometry(6, 6, 2, 16, 3, 3));
  for (double& value : r.q) value *= 100;
  const std::vector<double> grad = random_values(r.q.size(), 9);
  r.forward();
  const Result<float> result = run<float>(r, grad);
  expect_close(result.o, r.o, 1e-4, "o");  // logits near 400 have an ulp of 3e-5
  expect_close(result.lse, r.lse, 1e-6, "lse");
}

// The oracle's gradients against central differences of its forward.
TEST(MsaConv, OracleAgainstCentralDifferences) {
  for (MsaBorder border : {MsaBorder::zero_logit, MsaBorder::masked}) {
    MsaConvGeometry g = geometry(5, 4, 4, 2, 3, 3);
    g.batch = 1;
    g.border = border;
    g.shift = MsaShift::directions;
    g.shift_size = 2;
    g.pool = 2;
    g.dropout = 0.2;
    MsaReference r = random_case(g);
    const std::vector<double> grad = random_values(r.q.size(), 9);
    r.backward(grad);
    const auto loss = [&] {
      r.forward();
      double sum = 0;
      for (size_t i = 0; i < grad.size(); ++i) sum += grad[i] * r.o[i];
      return sum;
    };
    for (auto [input, gradient] : {std::pair{&r.q, &r.dq}, {&r.k, &r.dk}, {&r.v, &r.dv}})
      for (size_t i = 0; i < input->size(); i += 3) {
        constexpr double kStep = 1e-5;
        const double kept = (*input)[i];
        (*input)[i] = kept + kStep;
        const double above = loss();
        (*input)[i] = kept - kStep;
        const double below = loss();
        (*input)[i] = kept;
        EXPECT_NEAR((above - below) / (2 * kStep), (*gradient)[i], 1e-7);
      }
  }
}

// Zero keys make the attention uniform over all taps, those outside the map too.
TEST(MsaConv, BorderLaw) {
  MsaReference r = random_case(geometry(6, 6, 1, 8, 3, 3));
  std::fill(r.k.begin(), r.k.end(), 0.0);
  std::fill(r.v.begin(), r.v.end(), 1.0);
  const Result<double> zero = run<double>(r, r.q);
  EXPECT_NEAR(zero.o[r.index(0, 0, 0, 0)], 4.0 / 9, 1e-14);
  EXPECT_NEAR(zero.o[r.index(0, 0, 3, 0)], 6.0 / 9, 1e-14);
  EXPECT_NEAR(zero.o[r.index(0, 2, 3, 0)], 1.0, 1e-14);
  r.g.border = MsaBorder::masked;
  const Result<double> masked = run<double>(r, r.q);
  for (double value : masked.o) EXPECT_NEAR(value, 1.0, 1e-14);
}

// A window that covers the map from every pixel is global attention, with one zero logit for each
// tap outside where the border is zero_logit.
TEST(MsaConv, WholeMapWindowIsGlobalAttention) {
  for (MsaBorder border : {MsaBorder::zero_logit, MsaBorder::masked}) {
    MsaConvGeometry g = geometry(4, 5, 2, 4, 9, 9);
    g.border = border;
    const MsaReference r = random_case(g);
    const Result<double> result = run<double>(r, r.q);
    const int64_t pixels = g.height * g.width;
    r.each_query([&](int64_t b, int64_t head, int64_t y, int64_t x) {
      std::vector<double> e(static_cast<size_t>(pixels));
      double sum = border == MsaBorder::masked ? 0.0 : static_cast<double>(g.taps() - pixels);
      for (int64_t p = 0; p < pixels; ++p) {
        double l = 0;
        for (int64_t n = head * g.head_dim; n < (head + 1) * g.head_dim; ++n)
          l += r.q[r.index(b, y, x, n)] * r.k[r.index(b, p / g.width, p % g.width, n)];
        sum += e[static_cast<size_t>(p)] = std::exp(l * r.g.scale);
      }
      for (int64_t n = head * g.head_dim; n < (head + 1) * g.head_dim; ++n) {
        double expected = 0;
        for (int64_t p = 0; p < pixels; ++p)
          expected +=
              e[static_cast<size_t>(p)] / sum * r.v[r.index(b, p / g.width, p % g.width, n)];
        EXPECT_NEAR(result.o[r.index(b, y, x, n)], expected, 1e-13);
      }
    });
  }
}

// Away from the border, shifting the input shifts the output.
TEST(MsaConv, InteriorShiftEquivariance) {
  const MsaReference r = random_case(geometry(12, 12, 2, 8, 3, 3));
  MsaReference moved = r;
  for (auto [from, to] : {std::pair{&r.q, &moved.q}, {&r.k, &moved.k}, {&r.v, &moved.v}})
    for (int64_t y = 1; y < 12; ++y)
      for (int64_t x = 2; x < 12; ++x)
        for (int64_t n = 0; n < 16; ++n)
          (*to)[r.index(0, y, x, n)] = (*from)[r.index(0, y - 1, x - 2, n)];
  const Result<float> a = run<float>(r, r.q), b = run<float>(moved, r.q);
  for (int64_t y = 3; y < 11; ++y)
    for (int64_t x = 4; x < 11; ++x)
      for (int64_t n = 0; n < 16; ++n)
        EXPECT_NEAR(b.o[r.index(0, y, x, n)], a.o[r.index(0, y - 1, x - 2, n)], 1e-6);
}

TEST(MsaConv, ShiftByZeroChangesNothingAndByKEverything) {
  MsaReference r = random_case(geometry(16, 16, 4, 16, 5, 5));
  const Result<float> plain = run<float>(r, r.q);
  r.g.shift = MsaShift::directions;
  EXPECT_EQ(run<float>(r, r.q).o, plain.o);
  r.g.shift_size = 5;
  const Result<float> shifted = run<float>(r, r.q);
  for (size_t i = 0; i < plain.o.size(); i += 16) EXPECT_NE(shifted.o[i], plain.o[i]);
}

TEST(MsaConv, SameBitsInEveryRunAndForAnyThreads) {
  const MsaReference r = random_case(geometry(17, 16, 4, 16, 5, 5));
  const int threads = num_threads();
  const Result<float> first = run<float>(r, r.q), second = run<float>(r, r.q);
  set_num_threads(1);
  const Result<float> single = run<float>(r, r.q);
  set_num_threads(threads);
  for (const Result<float>* other : {&second, &single}) {
    EXPECT_EQ(first.o, other->o);
    EXPECT_EQ(first.lse, other->lse);
    EXPECT_EQ(first.dq, other->dq);
    EXPECT_EQ(first.dk, other->dk);
    EXPECT_EQ(first.dv, other->dv);
  }
}

TEST(MsaConv, RefusesEvenKernelWithOddDilation) {
  MsaConvGeometry g = geometry(6, 6, 1, 8, 4, 4, 1);
  try {
    check_msa_conv(g);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::usage);
    EXPECT_NE(std::string(error.what()).find("kernel 4x4"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("dilation 1"), std::string::npos) << error.what();
  }
  g.dilation = 2;
  EXPECT_NO_THROW(check_msa_conv(g));
  g.dilation = 3;
  EXPECT_THROW(check_msa_conv(g), Error);
  EXPECT_THROW(check_msa_conv(geometry(6, 6, 1, 8, 3, 2, 1)), Error);
  EXPECT_THROW(check_msa_conv(geometry(0, 6, 1, 8, 3, 3, 1)), Error);
  EXPECT_THROW(check_msa_conv(geometry(6, 6, 1, 8, 3, 3, int64_t{1} << 40)), Error);
}

}  // namespace
}  // namespace mullion
