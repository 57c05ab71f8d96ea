// The rungs of docs/kernels.md on the CPU: each computes what the reference computes.
#include <gtest/gtest.h>

#include "tensor/random.h"
#include "tests/ladder/reference.h"
#include "tests/ladder/simple.h"
#include "tests/reference_attention.h"
#include "tests/reference_msa_conv.h"

namespace mullion::test {
namespace {

Doubles spread(int64_t n, uint64_t stream) {
  Philox philox{7, stream};
  Doubles values(static_cast<size_t>(n));
  for (double& v : values) v = double{philox.uniform(-1, 1)};
  return values;
}
std::vector<float> floats(const Doubles& values) { return {values.begin(), values.end()}; }

void expect_close(const std::vector<float>& values, const Doubles& expected) {
  ASSERT_EQ(values.size(), expected.size());
  for (size_t i = 0; i < values.size(); ++i)
    ASSERT_NEAR(double{values[i]}, expected[i], 1e-5 * (1 + std::abs(expected[i]))) << i;
}

TEST(Ladder, SimpleProduct) {
  const int64_t m = 13, n = 21, k = 37;
  const Doubles a = spread(m * k, 1), w = spread(n * k, 2), bias = spread(n, 3);
  std::vector<float> c(static_cast<size_t>(m * n), NAN);
  ladder::simple_product(floats(a).data(), floats(w).data(), floats(bias).data(), c.data(), m, n,
                         k);
  expect_close(c, reference_product(a, w, bias, m, n, k));
}

TEST(Ladder, SimpleRmsNorm) {
  const int64_t rows = 5, width = 67;
  const Doubles x = spread(rows * width, 1), w = spread(width, 2);
  const std::vector<float> xs = floats(x), ws = floats(w);
  std::vector<float> y(xs.size(), NAN), rstd(static_cast<size_t>(rows), NAN);
  ladder::simple_rms_norm(
      {xs.data(), ws.data(), y.data(), rstd.data(), DType::f32, rows, width, 1e-5});
  expect_close(y, reference_rms_norm(x, w, 1e-5));
}

TEST(Ladder, SimpleAttention) {
  for (const char* name : {"full", "s2", "sf", "fixed"}) {
    PatternOptions options;
    options.n_heads = 4, options.context = 37, options.group_size = 8;
    ReferenceAttention r{2,  37, 37, 4,  2,  8,  0,  0.3, make_pattern(name, options),
                         {}, {}, {}, {}, {}, {}, {}, {}};
    r.q = spread(2 * 37 * 32, 1), r.k = spread(2 * 37 * 16, 2), r.v = spread(2 * 37 * 16, 3);
    r.forward();
    const std::vector<float> q = floats(r.q), k = floats(r.k), v = floats(r.v);
    std::vector<float> o(q.size(), NAN);
    AttentionForwardArgs args{};
    args.size = {2, 37, 37, 4, 2, 8, 0.3, 0, DType::f32, &r.pattern};
    args.q = q.data(), args.k = k.data(), args.v = v.data(), args.o = o.data();
    args.q_stride = args.o_stride = {37 * 32, 32, 8};
    args.k_stride = args.v_stride = {37 * 16, 16, 8};
    ladder::simple_attention(args);
    SCOPED_TRACE(name);
    expect_close(o, r.o);
  }
}

TEST(Ladder, SimpleMsaConv) {
  for (const MsaBorder border : {MsaBorder::zero_logit, MsaBorder::masked})
    for (const int64_t dilation : {1, 2}) {
      MsaConvGeometry g;
      g.batch = 2, g.height = 6, g.width = 9, g.heads = 2, g.head_dim = 8;
      g.kernel_h = 3, g.kernel_w = 5, g.dilation = dilation, g.border = border, g.scale = 0.4;
      MsaReference r{g, {}, {}, {}, {}, {}, {}, {}, {}};
      const int64_t n = 2 * 6 * 9 * 16;
      r.q = spread(n, 1), r.k = spread(n, 2), r.v = spread(n, 3);
      r.forward();
      const std::vector<float> q = floats(r.q), k = floats(r.k), v = floats(r.v);
      std::vector<float> o(q.size(), NAN), lse(r.lse.size(), NAN);
      ladder::simple_msa_conv(
          {g, DType::f32, q.data(), k.data(), v.data(), 16, 16, 16, o.data(), 16, lse.data()});
      expect_close(o, r.o);
      expect_close(lse, r.lse);
    }
}

}  // namespace
}  // namespace mullion::test
