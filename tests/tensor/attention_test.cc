// The attention kernels against the naive oracle: forward and backward, f64 tightly and f32, over
// patterns, odd sizes, head ratios, strides and offsets; outputs are filled with NaN and fenced.
#include <gtest/gtest.h>

#include "tensor/check.h"
#include "tensor/cpu/attention.h"
#include "tensor/parallel.h"
#include "tests/attention_case.h"
#include "tests/tensor/fenced_array.h"

namespace mullion {
namespace {

using test::difference;
using test::FencedArray;
using test::random_values;
using test::reference_of;
using test::ReferenceAttention;

using Case = test::AttentionCase;

Case sized(const std::string& pattern, int64_t B, int64_t T, int64_t H, int64_t Hkv, int64_t D,
           bool packed = false) {
  Case c;
  c.pattern = pattern, c.B = B, c.T = T, c.H = H, c.Hkv = Hkv, c.D = D, c.packed = packed;
  return c;
}

template <typename T>
struct Results {
  std::vector<T> o, lse, dq, dk, dv;
  bool operator==(const Results&) const = default;
};

template <typename T>
AttentionSizes sizes_of(const ReferenceAttention& r) {
  const DType dtype = sizeof(T) == 4 ? DType::f32 : DType::f64;
  return {r.B, r.T, r.S, r.H, r.Hkv, r.D, r.scale, r.query_offset, dtype, &r.pattern};
}

// Forward, and backward where d_o is not empty.
template <typename T>
Results<T> run_kernels(const ReferenceAttention& r, const std::vector<double>& d_o, bool packed) {
  const T nan = std::numeric_limits<T>::quiet_NaN();
  const int64_t gap = packed ? 2 * r.Hkv * r.D : 0, kv_gap = packed ? (r.H + r.Hkv) * r.D : 3;
  FencedArray<T> q(r.B, r.T, r.H, r.D, gap, r.q), k(r.B, r.S, r.Hkv, r.D, kv_gap, r.k),
      v(r.B, r.S, r.Hkv, r.D, kv_gap, r.v);
  FencedArray<T> o(r.B, r.T, r.H, r.D, 5, nan), lse(r.B, r.H, 1, r.T, 0, nan);

  AttentionForwardArgs args{};
  args.size = sizes_of<T>(r);
  args.q = q.data(), args.k = k.data(), args.v = v.data(), args.o = o.data();
  args.lse = lse.data();
  args.q_stride = q.strides(), args.k_stride = k.strides(), args.v_stride = v.strides();
  args.o_stride = o.strides();
  cpu::attention_forward(args);
  EXPECT_TRUE(o.fence_stands() && lse.fence_stands());
  if (d_o.empty()) return {o.values(), lse.values(), {}, {}, {}};

  FencedArray<T> gradient(r.B, r.T, r.H, r.D, 1, d_o), dq(r.B, r.T, r.H, r.D, gap, nan),
      dk(r.B, r.S, r.Hkv, r.D, kv_gap, nan), dv(r.B, r.S, r.Hkv, r.D, kv_gap, nan);
  AttentionBackwardArgs back{};
  back.size = args.size;
  back.q = q.data(), back.k = k.data(), back.v = v.data(), back.o = o.data();
  back.lse = lse.data(), back.d_o = gradient.data();
  back.dq = dq.data(), back.dk = dk.data(), back.dv = dv.data();
  back.q_stride = q.strides(), back.k_stride = k.strides(), back.v_stride = v.strides();
  back.o_stride = o.strides(), back.d_o_stride = gradient.strides();
  back.dq_stride = dq.strides(), back.dk_stride = dk.strides(), back.dv_stride = dv.strides();
  const auto scratch_size =
      static_cast<int64_t>(cpu::attention_backward_scratch(args.size) / sizeof(T));
  FencedArray<T> scratch(1, 1, 1, scratch_size, 0, nan);
  back.scratch = scratch.data();
  cpu::attention_backward(back);
  EXPECT_TRUE(dq.fence_stands() && dk.fence_stands() && dv.fence_stands());
  EXPECT_TRUE(scratch.fence_stands());
  return {o.values(), lse.values(), dq.values(), dk.values(), dv.values()};
}

template <typename T>
void compare(const Case& c, const ReferenceAttention& r, const std::vector<double>& d_o,
             double bound) {
  const Results<T> got = run_kernels<T>(r, d_o, c.packed);
  EXPECT_LE(difference(got.o, r.o), bound) << name_of(c);
  EXPECT_LE(difference(got.lse, r.lse), bound) << name_of(c);
  if (d_o.empty()) return;
  if (r.S > 1) {  // else they are nothing but rounding
    EXPECT_LE(difference(got.dq, r.dq), bound) << name_of(c);
    EXPECT_LE(difference(got.dk, r.dk), bound) << name_of(c);
  }
  EXPECT_LE(difference(got.dv, r.dv), bound) << name_of(c);
}

void check(const Case& c, ReferenceAttention r) {
  r.forward();
  std::vector<double> d_o;
  if (c.offset == 0) {
    d_o = random_values(r.B * r.T * r.H * r.D, 4);
    r.backward(d_o);
  }
  compare<double>(c, r, d_o, 1e-13);
  compare<float>(c, r, d_o, 4e-6);
}
void check(const Case& c) { check(c, reference_of(c)); }

TEST(Attention, FullCausalOfManySizes) {
  for (const int64_t T : {1, 2, 3, 17, 48, 49, 129, 300})
    for (const int64_t D : {1, 7, 16, 40, 64}) check(sized("full", 1, T, 2, 1, D, D % 2 == 0));
  check(sized("full", 1, 140, 2, 2, 128));
  check(sized("full", 1, 70, 1, 1, 160));
}

TEST(Attention, HeadRatiosAndBatches) {
  const std::vector<std::pair<int64_t, int64_t>> ratios = {{1, 1}, {3, 3},  {9, 3}, {8, 2},
                                                           {5, 1}, {64, 1}, {12, 4}};
  for (const auto& [H, Hkv] : ratios)
    for (const std::string pattern : {"full", "sf", "s2"})
      check(sized(pattern, 2, 45, H, Hkv, 12, true));
}

TEST(Attention, EveryPreset) {
  for (const std::string& pattern : pattern_names())
    for (const int64_t T : {48, 96, 240})
      for (const int64_t group : {4, 12, 24})
        check(sized(pattern, 1, T, 4, 2, 16).with_group(group));
}

TEST(Attention, LengthsThatGroupsDoNotDivide) {
  for (const std::string pattern : {"s2", "sf", "s2-sr", "fixed", "strided", "random"})
    for (const int64_t T : {5, 8, 9, 27, 101, 331})
      check(sized(pattern, 1, T, 9, 3, 8).with_group(16));
}

TEST(Attention, ShorterThanThePatternWasMadeFor) {
  PatternOptions options;
  options.n_heads = 4, options.context = 64, options.group_size = 16;
  for (const int64_t T : {1, 3, 7, 8, 20}) {
    const Case c = sized("sf", 1, T, 4, 2, 8);
    ReferenceAttention r = reference_of(c);
    r.pattern = make_pattern("sf", options);
    check(c, r);
  }
}

TEST(Attention, AnyNumberOfSinks) {
  for (int64_t sinks = 0; sinks <= 7; ++sinks)
    for (const std::string pattern : {"sf", "s2-global", "sf-leaky"})
      check(sized(pattern, 1, 64, 4, 1, 16).with_group(8, sinks));
}

// One call over packed documents, by the reference that asks visible() of every pair; and each
// document as the same kernel computes it alone.
TEST(Attention, PackedDocuments) {
  const std::vector<std::vector<int64_t>> borders = {
      {0}, {0, 1}, {0, 7, 8, 30}, {0, 50, 53, 54, 120}};
  for (const std::string& pattern : pattern_names()) {
    if (pattern_of(sized(pattern, 1, 150, 8, 2, 16).with_group(10)).wrap != Wrap::split) continue;
    for (const auto& documents : borders)
      for (const int64_t threads : {1, 3}) {
        set_num_threads(static_cast<int>(threads));
        const Case c = sized(pattern, 1, 150, 8, 2, 16).with_group(10);
        ReferenceAttention r = reference_of(c);
        r.pattern.documents = documents;
        check(c, r);
      }
    set_num_threads(0);
  }
}

TEST(Attention, DocumentsOfAnotherLengthAreRefused) {
  ReferenceAttention r = reference_of(sized("sf", 1, 20, 4, 2, 8));
  for (const std::vector<int64_t>& wrong :
       {std::vector<int64_t>{1, 5}, {0, 5, 5}, {0, 20}, {0, 7, 3}}) {
    r.pattern.documents = wrong;
    EXPECT_THROW(run_kernels<float>(r, {}, false), Error);
  }
  r = reference_of(sized("sf", 2, 20, 4, 2, 8));
  r.pattern.documents = {0, 5};
  EXPECT_THROW(run_kernels<float>(r, {}, false), Error);  // of one sequence, not of two
}

TEST(Attention, WithoutCausality) {
  Case c = sized("full", 2, 50, 3, 3, 32);
  c.causal = false;
  check(c);
  c.S = 77;
  check(c);
  for (const std::string pattern : {"sf", "sf-leaky"}) {
    Case open = sized(pattern, 1, 64, 4, 2, 8).with_group(16);
    open.open_sinks = true;
    check(open);
    open.open_sinks = open.causal = false;
    check(open);
  }
}

// A sink may then lie behind the segment of a query that sees it.
TEST(Attention, SinksBeyondTheFirstSegmentWithoutCausality) {
  for (const int64_t group : {2, 4})
    for (const int64_t T : {4, 5, 8, 19}) {
      Case c = sized("sf", 2, T, 4, 2, 6).with_group(group, group);
      c.causal = false;
      check(c);
    }
}

TEST(Attention, ContinuesAfterACache) {
  for (const int64_t T : {1, 2, 5, 50})
    for (const int64_t offset : {1, 30, 600, 1500})
      for (const std::string pattern : {"full", "sf", "strided", "random"}) {
        Case c = sized(pattern, 2, T, 6, 2, T == 1 ? 20 : 64, true).with_group(64);
        c.offset = offset;
        check(c);
      }
}

TEST(Attention, LongSequences) {  // many tiles, many blocks
  check(sized("full", 1, 1100, 3, 1, 64));
  check(sized("sf", 1, 1100, 3, 1, 64).with_group(400));
}

TEST(Attention, SameBitsTwiceAndForwardWithAnyNumberOfThreads) {
  const int before = num_threads();
  for (const std::string pattern : {"full", "sf", "s2", "sf-leaky"}) {
    const ReferenceAttention r = reference_of(sized(pattern, 1, 384, 9, 3, 64).with_group(96));
    const std::vector<double> d_o = random_values(r.B * r.T * r.H * r.D, 4);
    set_num_threads(2);
    const Results<float> first = run_kernels<float>(r, d_o, false);
    EXPECT_EQ(first, run_kernels<float>(r, d_o, false)) << pattern;
    set_num_threads(3);
    const Results<float> other = run_kernels<float>(r, d_o, false);
    EXPECT_EQ(first.o, other.o) << pattern;
    EXPECT_EQ(first.lse, other.lse) << pattern;
    EXPECT_EQ(first.dq, other.dq) << pattern;
    EXPECT_LE(difference(first.dk, std::vector<double>(other.dk.begin(), other.dk.end())), 1e-6);
  }
  set_num_threads(before);
}

// The gradients are those of the forward kernel itself.
TEST(Attention, GradientsAgainstCentralDifferences) {
  for (const std::string pattern : {"full", "sf", "shift-up-only"}) {
    ReferenceAttention r = reference_of(sized(pattern, 1, 16, 4, 2, 4).with_group(4));
    const std::vector<double> d_o = random_values(r.B * r.T * r.H * r.D, 4);
    const Results<double> at = run_kernels<double>(r, d_o, false);
    const auto loss = [&] {
      const std::vector<double> o = run_kernels<double>(r, {}, false).o;
      double sum = 0;
      for (size_t i = 0; i < o.size(); ++i) sum += o[i] * d_o[i];
      return sum;
    };
    const auto slope = [&](double& x) {
      const double x0 = x, h = 1e-5;
      x = x0 + h;
      const double up = loss();
      x = x0 - h;
      const double down = loss();
      x = x0;
      return (up - down) / (2 * h);
    };
    for (size_t i = 0; i < r.q.size(); i += 5) EXPECT_NEAR(slope(r.q[i]), at.dq[i], 1e-8);
    for (size_t i = 0; i < r.k.size(); i += 3) EXPECT_NEAR(slope(r.k[i]), at.dk[i], 1e-8);
    for (size_t i = 0; i < r.v.size(); i += 3) EXPECT_NEAR(slope(r.v[i]), at.dv[i], 1e-8);
  }
}

TEST(Attention, TheComparisonSeesOnePercent) {
  ReferenceAttention r = reference_of(sized("sf", 1, 40, 4, 2, 16));
  r.forward();
  const std::vector<double> d_o = random_values(r.B * r.T * r.H * r.D, 4);
  r.backward(d_o);
  for (double& x : r.dk) x *= 1.01;
  EXPECT_GT(difference(run_kernels<float>(r, d_o, false).dk, r.dk), 1e-3);
}

TEST(Attention, LargeScoresStayFinite) {
  const Case c = sized("sf", 1, 60, 2, 1, 16).with_group(16);
  ReferenceAttention r = reference_of(c);
  r.scale = 60;
  r.forward();
  const std::vector<double> d_o = random_values(r.B * r.T * r.H * r.D, 4);
  r.backward(d_o);
  compare<double>(c, r, d_o, 1e-11);
  compare<float>(c, r, d_o, 2e-3);  // scores in the thousands: their rounding is 1e-4
}

TEST(Attention, NotANumberIsNotHidden) {
  for (const int64_t T : {1, 40}) {
    ReferenceAttention r = reference_of(sized("full", 1, T, 1, 1, 16));
    r.k[3] = std::numeric_limits<double>::quiet_NaN();
    for (const float x : run_kernels<float>(r, {}, false).o) EXPECT_TRUE(std::isnan(x));
  }
}

TEST(Attention, RefusesSizesThatDoNotFit) {
  const auto refused = [](const AttentionSizes& size) {
    try {
      cpu::attention_backward_scratch(size);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  ReferenceAttention r = reference_of(sized("sf-leaky", 1, 16, 4, 2, 4).with_group(4));
  r.pattern.context = 32;
  EXPECT_NE(refused(sizes_of<float>(r)).find("32 tokens used with 16"), std::string::npos);
  r = reference_of(sized("full", 1, 16, 4, 2, 4));
  AttentionSizes size = sizes_of<float>(r);
  size.query_offset = 1;
  EXPECT_NE(refused(size).find("16 queries from position 1 but 16 keys"), std::string::npos);
  size.Hkv = 3;
  EXPECT_NE(refused(size).find("H 4, Hkv 3"), std::string::npos);
  size = sizes_of<float>(r);
  size.dtype = DType::bf16;
  EXPECT_NE(refused(size).find("bf16 is neither"), std::string::npos);
}

}  // namespace
}  // namespace mullion
