// The attention kernels of the device against the naive oracle in double: patterns, odd sizes, head
// ratios, strides and offsets, on both sides of each choice of a kernel (type, D of 64 and 128,
// aligned rows) and of each tile (32 rows and keys of the simple kernels; 128 rows, 48 and 64 keys,
// 128 keys of a gradient block, 16 keys of a list of the tensor-core ones). Outputs hold NaN before
// and marks around; runs in every order give the same bits.
#include <algorithm>
#include <cmath>

#include "tensor/kernel_args/attention.h"
#include "tests/cuda/attention_runs.h"

namespace mullion::test {
namespace {

class AttentionOnDevice : public OnDevice<> {};

TEST_F(AttentionOnDevice, SimpleWidths) {
  for (const int64_t D : {1, 7, 8, 32, 33, 40, 64, 65, 96, 128, 129, 160, 256})
    check({.T = 37, .H = 2, .D = D, .gap = D % 2 * 3, .every_order = D == 40}, DType::f32);
  for (const int64_t D : {8, 40, 96, 160}) check({.T = 37, .H = 2, .D = D}, DType::bf16);
}

TEST_F(AttentionOnDevice, ColumnSums) {
  for (const int64_t T : {1, 2, 7, 8, 9, 40})
    for (const int64_t before : {0, 5, 127, 128, 300})
      for (const int64_t from : {int64_t{0}, T / 2, T - 1})
        for (const DType type : {DType::f32, DType::bf16})
          check({.T = T,
                 .H = 6,
                 .Hkv = 2,
                 .D = before == 5 ? 20 : 64,
                 .offset = before,
                 .every_order = T == 9 && before == 5,
                 .sums_from = from},
                type);
  check({.B = 2, .T = 33, .H = 4, .Hkv = 4, .D = 256, .gap = 3, .causal = false}, DType::f32);
  // Keys after the last query.
  for (const int64_t T : {1, 2, 8, 9})
    for (const int64_t after : {1, 31, 160})
      for (const DType type : {DType::f32, DType::bf16})
        check({.T = T, .H = 4, .Hkv = 2, .D = 64, .offset = 127, .S = 127 + T + after}, type);
}

TEST_F(AttentionOnDevice, ColumnSumsAreOfFullAttention) {
  const AttentionCase c{.pattern = "sf", .T = 32, .H = 4, .Hkv = 4, .D = 8};
  const ReferenceAttention r = reference_of(c, DType::f32);
  AttentionForwardArgs args{};
  args.size = {r.B, r.T, r.S, r.H, r.Hkv, r.D, r.scale, 0, DType::f32, &r.pattern};
  float never_read = 0;
  args.lse = args.column_sums = &never_read;
  EXPECT_THROW(kernels(kCuda).attention_forward(args), Error);
}

TEST_F(AttentionOnDevice, SimpleLengths) {
  for (const int64_t T : {1, 2, 31, 32, 33, 65, 100})
    check({.T = T, .H = 2, .D = 16, .every_order = T == 65}, DType::f32);
}

TEST_F(AttentionOnDevice, TensorCoreLengths) {
  for (const int64_t D : {64, 128})
    for (const int64_t T : {1, 9, 16, 47, 49, 64, 65, 127, 128, 129, 200})
      check({.T = T, .D = D, .every_order = T == 129}, DType::bf16);
}

TEST_F(AttentionOnDevice, HeadRatiosAndBatches) {
  const std::pair<int64_t, int64_t> ratios[] = {{1, 1}, {3, 3},  {9, 3}, {8, 2},
                                                {5, 1}, {12, 4}, {33, 1}};
  for (const auto& [H, Hkv] : ratios)
    for (const std::string pattern : {"full", "sf", "s2"}) {
      check({.pattern = pattern, .B = 2, .T = 21, .H = H, .Hkv = Hkv, .D = 12, .gap = 4},
            DType::f32);
      check({.pattern = pattern, .B = 2, .T = 21, .H = H, .Hkv = Hkv, .D = 64, .gap = 8},
            DType::bf16);
    }
}

TEST_F(AttentionOnDevice, EveryPreset) {
  for (const std::string& pattern : pattern_names())
    for (const int64_t group : {4, 12}) {
      check({.pattern = pattern, .T = 48, .H = 4, .Hkv = 2, .D = 16, .group = group}, DType::f32);
      check({.pattern = pattern, .T = 48, .H = 4, .Hkv = 2, .D = 64, .group = group}, DType::bf16);
    }
}

TEST_F(AttentionOnDevice, LongerThanATile) {
  for (const std::string pattern :
       {"sf", "sf-leaky", "shift-up-only", "fixed", "strided", "random"})
    for (const int64_t D : {64, 128})
      check({.pattern = pattern,
             .T = 180,
             .H = 4,
             .Hkv = D == 64 ? 4 : 2,
             .D = D,
             .group = 60,
             .every_order = pattern == "sf"},
            DType::bf16);
}

TEST_F(AttentionOnDevice, LengthsThatGroupsDoNotDivide) {
  for (const std::string pattern : {"s2", "sf", "s2-sr", "fixed", "strided", "random"})
    for (const int64_t T : {5, 9, 27, 101}) {
      check({.pattern = pattern, .T = T, .H = 9, .Hkv = 3, .D = 8, .group = 16}, DType::f32);
      check({.pattern = pattern, .T = T, .H = 9, .Hkv = 3, .D = 64, .group = 16}, DType::bf16);
    }
}

TEST_F(AttentionOnDevice, AnyNumberOfSinks) {
  for (const int64_t sinks : {0, 1, 15, 16, 17, 33})
    for (const std::string pattern : {"sf", "sf-leaky"}) {
      const AttentionCase c{
          .pattern = pattern, .T = 120, .H = 4, .Hkv = 1, .D = 64, .group = 40, .sinks = sinks};
      check(c, DType::f32);
      check(c, DType::bf16);
    }
}

// Documents in one call, on both sides of a tile of queries and of keys.
TEST_F(AttentionOnDevice, PackedDocuments) {
  for (const std::string pattern : {"full", "sf", "fixed", "strided", "random"})
    for (const DType type : {DType::f32, DType::bf16}) {
      const AttentionCase c{.pattern = pattern,
                            .T = 140,
                            .H = 4,
                            .Hkv = 2,
                            .D = 64,
                            .group = 20,
                            .every_order = pattern == "sf" && type == DType::bf16};
      ReferenceAttention r = reference_of(c, type);
      r.pattern.documents = {0, 1, 18, 40, 41, 129};
      check(c, type, r);
    }
}

TEST_F(AttentionOnDevice, WithoutCausality) {
  for (const DType type : {DType::f32, DType::bf16}) {
    check({.B = 2, .T = 50, .H = 3, .Hkv = 3, .D = 64, .causal = false}, type);
    check({.B = 2, .T = 50, .H = 3, .Hkv = 3, .D = 64, .S = 77, .causal = false}, type);
    check({.B = 1, .T = 50, .H = 3, .Hkv = 3, .D = 64, .S = 33, .causal = false}, type);
    for (const std::string pattern : {"sf", "sf-leaky"})
      for (const bool causal : {true, false})
        check({.pattern = pattern,
               .T = 64,
               .H = 4,
               .Hkv = 2,
               .D = 64,
               .group = 16,
               .causal = causal,
               .open_sinks = true},
              type);
  }
}

TEST_F(AttentionOnDevice, ContinuesAfterACache) {
  for (const DType type : {DType::f32, DType::bf16})
    for (const int64_t T : {1, 2, 8, 9, 50})
      for (const int64_t offset : {1, 30, 300})
        for (const std::string pattern : {"full", "sf", "strided", "random"})
          check({.pattern = pattern,
                 .B = 2,
                 .T = T,
                 .H = 6,
                 .Hkv = 2,
                 .D = 64,
                 .group = 64,
                 .offset = offset,
                 .gap = 64},
                type);
}

// Key blocks that no query sees as part of a range: beyond the queries' segments, and where
// segments are shorter than the sinks before them.
TEST_F(AttentionOnDevice, KeysThatNobodySees) {
  for (const DType type : {DType::f32, DType::bf16})
    for (const int64_t D : {64, 128}) {
      for (const std::string pattern : {"s2", "sf"})
        check({.pattern = pattern,
               .T = 40,
               .H = 4,
               .Hkv = 2,
               .D = D,
               .group = 16,
               .S = 300,
               .causal = false,
               .every_order = pattern == "sf"},
              type);
      check({.pattern = "sf", .T = 180, .H = 4, .Hkv = 2, .D = D, .group = 4, .more_sinks = 140},
            type);
    }
}

// A log-sum-exp over 16,384 keys: what many tiles add must not drift.
TEST_F(AttentionOnDevice, ManyKeys) {
  const AttentionCase c{.T = 9, .H = 2, .Hkv = 1, .D = 128, .offset = 16384 - 9};
  ReferenceAttention r = reference_of(c, DType::bf16);
  // One key of each query's direction, so that the maximum is high and stays from the first tile
  // on.
  for (int64_t d = 0; d < c.D; ++d) {
    r.k[static_cast<size_t>(d)] = d % 2 ? 1.5 : -1.5;
    for (int64_t row = 0; row < c.T * c.H; ++row)
      r.q[static_cast<size_t>(row * c.D + d)] += d % 2 ? 0.75 : -0.75;
  }
  for (double& x : r.q) x = static_cast<double>(static_cast<float>(bf16(static_cast<float>(x))));
  r.forward();
  const AttentionResults got = run_kernels(c, r, DType::bf16, {});
  EXPECT_LE(difference(got.o, r.o), bound_of(DType::bf16));
  for (size_t i = 0; i < r.lse.size(); ++i)
    EXPECT_NEAR(static_cast<double>(got.lse[i]), r.lse[i], 1e-5) << i;
}

// Few queries: both sides of 8 queries and of 128 keys, every width of a lane, several splits.
TEST_F(AttentionOnDevice, Decoding) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const int64_t D : {8, 20, 40, 64, 72, 128, 160, 256})
      check({.B = 2, .T = 1, .H = 6, .Hkv = 2, .D = D, .offset = 150}, type);
    for (const auto& [T, S] : {std::pair<int64_t, int64_t>{1, 127}, {1, 128}, {8, 128}, {9, 128}})
      check({.T = T, .H = 4, .Hkv = 2, .D = 64, .offset = S - T}, type);
    for (const std::string pattern : {"full", "sf", "fixed", "strided", "random"})
      check({.pattern = pattern,
             .T = 3,
             .H = 10,
             .Hkv = 1,
             .D = 64,
             .group = 256,
             .offset = 1100,
             .every_order = pattern == "sf"},
            type);
    check({.T = 2, .H = 2, .Hkv = 1, .D = 64, .offset = 300, .gap = 2, .skew = 1}, type);
    check({.T = 1, .H = 2, .Hkv = 1, .D = 64, .offset = 300, .gap = 64}, type);
  }
}

TEST_F(AttentionOnDevice, RowsThatAreNotAligned) {
  for (const auto& [gap, skew] : {std::pair<int64_t, int64_t>{4, 0}, {0, 1}, {0, 8}, {8, 0}})
    for (const int64_t T : {3, 70})
      check({.pattern = "sf",
             .T = T,
             .H = 4,
             .Hkv = 2,
             .D = 64,
             .group = 16,
             .gap = gap,
             .skew = skew},
            DType::bf16);
}

TEST_F(AttentionOnDevice, NegativeScale) {
  for (const DType type : {DType::f32, DType::bf16}) {
    const AttentionCase c{.T = 40, .D = 64};
    ReferenceAttention r = reference_of(c, type);
    r.scale = -0.2;
    check(c, type, r);
  }
}

TEST_F(AttentionOnDevice, LargeScoresStayFinite) {
  const AttentionCase c{.pattern = "sf", .T = 60, .H = 2, .D = 64, .group = 16};
  for (const DType type : {DType::f32, DType::bf16}) {
    ReferenceAttention r = reference_of(c, type);
    r.scale = 60;
    const std::vector<double> d_o = random_values(r.B * r.T * r.H * r.D, 4, type);
    const AttentionResults got = run_kernels(c, r, type, d_o);
    for (const Floats& values : {got.o, got.lse, got.dq, got.dk, got.dv})
      EXPECT_TRUE(
          std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }));
  }
}

TEST_F(AttentionOnDevice, NotANumberIsNotHidden) {
  for (const DType type : {DType::f32, DType::bf16})
    for (const int64_t T : {1, 40}) {
      const AttentionCase c{.T = T, .D = 64};
      ReferenceAttention r = reference_of(c, type);
      r.k[3] = std::numeric_limits<double>::quiet_NaN();
      for (const float x : run_kernels(c, r, type, {}).o) EXPECT_TRUE(std::isnan(x));
    }
}

TEST_F(AttentionOnDevice, TheComparisonSeesThreePercent) {
  for (const DType type : {DType::f32, DType::bf16}) {
    const AttentionCase c{.pattern = "sf", .T = 40, .H = 4, .Hkv = 2, .D = 64};
    ReferenceAttention r = reference_of(c, type);
    r.forward();
    const std::vector<double> d_o = random_values(r.B * r.T * r.H * r.D, 4, type);
    r.backward(d_o);
    const AttentionResults got = run_kernels(c, r, type, d_o);
    for (double& x : r.dk) x *= 1.03;
    EXPECT_GT(difference(got.dk, r.dk), bound_of(type));
  }
}

std::string refusal(const AttentionSizes& size) {
  try {
    kernels(kCuda).attention_backward_scratch(size);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST_F(AttentionOnDevice, RefusesSizesThatDoNotFit) {
  const ReferenceAttention r = reference_of({.T = 16, .H = 4, .Hkv = 2}, DType::f32);
  AttentionSizes size{.B = 1,
                      .T = 16,
                      .S = 16,
                      .H = 4,
                      .Hkv = 2,
                      .D = 8,
                      .scale = 1.0,
                      .query_offset = 0,
                      .dtype = DType::f64,
                      .pattern = &r.pattern};
  EXPECT_NE(refusal(size).find("f64 is for the CPU's gradient checks"), std::string::npos);
  size.dtype = DType::f32;
  size.D = 257;
  EXPECT_NE(refusal(size).find("heads of 257"), std::string::npos);
  size.D = 8;
  size.query_offset = 1;
  EXPECT_NE(refusal(size).find("16 queries from position 1"), std::string::npos);
}

}  // namespace
}  // namespace mullion::test
