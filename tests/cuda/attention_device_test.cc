// The attention kernels of the device against the naive oracle in double: patterns, odd sizes, head
// ratios, strides and offsets, on both sides of each choice of a kernel (type, D of 64 and 128,
// aligned rows) and of each tile (32 rows and keys of the simple kernels; 128 rows, 48 and 64 keys,
// 128 keys of a gradient block, 16 keys of a list of the tensor-core ones). Outputs hold NaN before
// and marks around; runs in every order give the same bits.
#include <algorithm>
#include <cmath>
#include <random>

#include "tensor/kernel_args/attention.h"
#include "tests/cuda/device_array.h"
#include "tests/cuda/device_runs.h"
#include "tests/reference_attention.h"

namespace mullion::test {
namespace {

struct Case {
  std::string pattern = "full";
  int64_t B = 1, T = 1, H = 1, Hkv = 1, D = 8;
  int64_t group = 8, sinks = -1;
  int64_t more_sinks = 0;     // than make_pattern() gives
  int64_t offset = 0, S = 0;  // S: T + offset unless given
  int64_t gap = 0;            // elements between the tokens of every array
  int64_t skew = 0;           // elements by which every array misses alignment
  bool causal = true, open_sinks = false, every_order = false;
  int64_t sums_from = 0;
};

std::string name_of(const Case& c, DType type) {
  return concat(c.pattern, " ", name_of(type), " B", c.B, " T", c.T, " S", c.S, " H", c.H, "/",
                c.Hkv, " D", c.D, " G", c.group, " sinks ", c.sinks + c.more_sinks, " offset ",
                c.offset, " gap ", c.gap, " skew ", c.skew, c.causal ? "" : " not causal",
                c.open_sinks ? " open sinks" : "");
}

AttentionPattern pattern_of(const Case& c) {
  PatternOptions options;
  options.n_heads = c.H;
  options.context = c.T + c.offset;
  options.group_size = c.group;
  options.sinks = c.sinks;
  AttentionPattern p = make_pattern(c.pattern, options);
  p.causal = c.causal;
  p.sink_query_noncausal = c.open_sinks;
  p.sinks += c.more_sinks;
  return p;
}

std::vector<double> random_values(int64_t n, unsigned seed, DType type) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<double> values(static_cast<size_t>(n));
  for (double& x : values) {
    const float value = normal(engine);
    x = static_cast<double>(type == DType::bf16 ? static_cast<float>(bf16(value)) : value);
  }
  return values;
}

ReferenceAttention reference_of(const Case& c, DType type) {
  ReferenceAttention r{};
  r.B = c.B, r.T = c.T, r.S = c.S > 0 ? c.S : c.T + c.offset, r.H = c.H, r.Hkv = c.Hkv, r.D = c.D;
  r.query_offset = c.offset;
  r.sums_from = c.sums_from;
  r.scale = 1.3 / std::sqrt(static_cast<double>(c.D));
  r.pattern = pattern_of(c);
  r.q = random_values(r.B * r.T * r.H * r.D, 1, type);
  r.k = random_values(r.B * r.S * r.Hkv * r.D, 2, type);
  r.v = random_values(r.B * r.S * r.Hkv * r.D, 3, type);
  return r;
}

// B x n x heads x D on the device, with `gap` elements between tokens that hold a mark.
class Rows {
 public:
  Rows(DType type, int64_t B, int64_t n, int64_t heads, int64_t D, int64_t gap, int64_t skew,
       const std::vector<double>& values)
      : width_(heads * D), strides_{n * (width_ + gap), width_ + gap, D} {
    Floats all(static_cast<size_t>(B * n * strides_.token), kMark);
    for (int64_t t = 0; t < B * n; ++t)
      for (int64_t i = 0; i < width_; ++i)
        all[static_cast<size_t>(t * strides_.token + i)] =
            values.empty() ? NAN : static_cast<float>(values[static_cast<size_t>(t * width_ + i)]);
    array_ = std::make_unique<DeviceArray>(kCuda, type, all, skew);
  }
  void* data() const { return array_->data(); }
  AttentionStrides strides() const { return strides_; }
  Floats values() const {
    const Floats all = array_->values();
    Floats found;
    for (size_t i = 0; i < all.size(); ++i) {
      if (static_cast<int64_t>(i) % strides_.token < width_)
        found.push_back(all[i]);
      else
        EXPECT_EQ(all[i], kMark) << "written between rows";
    }
    return found;
  }

 private:
  static constexpr float kMark = 1536;
  int64_t width_;
  AttentionStrides strides_;
  std::unique_ptr<DeviceArray> array_;
};

struct Results {
  Floats o, lse, sums, dq, dk, dv;
  bool operator==(const Results&) const = default;
};

// Forward, and backward where d_o is not empty.
Results run_kernels(const Case& c, const ReferenceAttention& r, DType type,
                    const std::vector<double>& d_o) {
  const auto rows = [&](int64_t n, int64_t heads, const std::vector<double>& values) {
    return Rows(type, r.B, n, heads, r.D, c.gap, c.skew, values);
  };
  const Rows q = rows(r.T, r.H, r.q), k = rows(r.S, r.Hkv, r.k), v = rows(r.S, r.Hkv, r.v);
  const Rows o = rows(r.T, r.H, {});
  const DeviceArray lse(kCuda, DType::f32, Floats(static_cast<size_t>(r.B * r.H * r.T), NAN), 0);
  const KernelTable& table = kernels(kCuda);
  AttentionForwardArgs args{};
  args.size = {r.B, r.T, r.S, r.H, r.Hkv, r.D, r.scale, r.query_offset, type, &r.pattern};
  args.q = q.data(), args.k = k.data(), args.v = v.data(), args.o = o.data();
  args.lse = lse.data();
  const bool with_sums = r.pattern.kind == PatternKind::full && r.pattern.documents.empty();
  const DeviceArray sums(kCuda, DType::f32, Floats(static_cast<size_t>(r.B * r.H * r.S), NAN), 0);
  if (with_sums) args.column_sums = sums.data(), args.sums_from = r.sums_from;
  args.q_stride = q.strides(), args.k_stride = k.strides(), args.v_stride = v.strides();
  args.o_stride = o.strides();
  const auto floats = [](size_t bytes) { return Floats((bytes + 3) / 4, NAN); };
  const DeviceArray parts(kCuda, DType::f32, floats(table.attention_forward_scratch(args.size)), 0);
  args.scratch = parts.data();
  table.attention_forward(args);
  parts.values();
  const Floats sums_found = with_sums ? sums.values() : Floats{};
  if (d_o.empty()) return {o.values(), lse.values(), sums_found, {}, {}, {}};

  const Rows gradient = rows(r.T, r.H, d_o), dq = rows(r.T, r.H, {}), dk = rows(r.S, r.Hkv, {}),
             dv = rows(r.S, r.Hkv, {});
  AttentionBackwardArgs back{};
  back.size = args.size;
  back.q = q.data(), back.k = k.data(), back.v = v.data(), back.o = o.data();
  back.lse = lse.data(), back.d_o = gradient.data();
  back.dq = dq.data(), back.dk = dk.data(), back.dv = dv.data();
  back.q_stride = q.strides(), back.k_stride = k.strides(), back.v_stride = v.strides();
  back.o_stride = o.strides(), back.d_o_stride = gradient.strides();
  back.dq_stride = dq.strides(), back.dk_stride = dk.strides(), back.dv_stride = dv.strides();
  const DeviceArray scratch(kCuda, DType::f32, floats(table.attention_backward_scratch(back.size)),
                            0);
  back.scratch = scratch.data();
  table.attention_backward(back);
  scratch.values();
  return {o.values(), lse.values(), sums_found, dq.values(), dk.values(), dv.values()};
}

// The largest difference relative to the largest value.
double difference(const Floats& got, const std::vector<double>& want) {
  EXPECT_EQ(got.size(), want.size());
  double worst = 0, top = 1e-30;
  for (size_t i = 0; i < want.size(); ++i) {
    const double d = std::abs(static_cast<double>(got[i]) - want[i]);
    worst = std::isnan(d) ? 1e30 : std::max(worst, d);
    top = std::max(top, std::abs(want[i]));
  }
  return worst / top;
}

// f32 sums in another order than the oracle; bf16 rounds results and probabilities to 8 bits.
double bound_of(DType type) { return type == DType::bf16 ? 1e-2 : 1e-5; }

void check_results(const Results& got, const ReferenceAttention& r, DType type, bool backward) {
  const double bound = bound_of(type);
  EXPECT_LE(difference(got.o, r.o), bound);
  EXPECT_LE(difference(got.lse, r.lse), 1e-5);
  if (!got.sums.empty()) {
    EXPECT_LE(difference(got.sums, r.sums), 1e-5);
  }
  if (!backward) return;
  if (r.S > 1) {  // else they are nothing but rounding
    EXPECT_LE(difference(got.dq, r.dq), bound);
    EXPECT_LE(difference(got.dk, r.dk), bound);
  }
  EXPECT_LE(difference(got.dv, r.dv), bound);
}

void check(const Case& c, DType type, ReferenceAttention r) {
  SCOPED_TRACE(name_of(c, type));
  r.forward();
  std::vector<double> d_o;
  if (c.offset == 0) {
    d_o = random_values(r.B * r.T * r.H * r.D, 4, type);
    r.backward(d_o);
  }
  const Results first = run_kernels(c, r, type, d_o);
  check_results(first, r, type, !d_o.empty());
  if (!c.every_order) return;
  in_every_order(
      [&](const std::string& order) { EXPECT_EQ(first, run_kernels(c, r, type, d_o)) << order; });
}
void check(const Case& c, DType type) { check(c, type, reference_of(c, type)); }

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
}

TEST_F(AttentionOnDevice, ColumnSumsAreOfFullAttention) {
  const Case c{.pattern = "sf", .T = 32, .H = 4, .Hkv = 4, .D = 8};
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
      const Case c{
          .pattern = pattern, .T = 120, .H = 4, .Hkv = 1, .D = 64, .group = 40, .sinks = sinks};
      check(c, DType::f32);
      check(c, DType::bf16);
    }
}

// Documents in one call, on both sides of a tile of queries and of keys.
TEST_F(AttentionOnDevice, PackedDocuments) {
  for (const std::string pattern : {"full", "sf", "fixed", "strided", "random"})
    for (const DType type : {DType::f32, DType::bf16}) {
      const Case c{.pattern = pattern,
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
  const Case c{.T = 9, .H = 2, .Hkv = 1, .D = 128, .offset = 16384 - 9};
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
  const Results got = run_kernels(c, r, DType::bf16, {});
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
    const Case c{.T = 40, .D = 64};
    ReferenceAttention r = reference_of(c, type);
    r.scale = -0.2;
    check(c, type, r);
  }
}

TEST_F(AttentionOnDevice, LargeScoresStayFinite) {
  const Case c{.pattern = "sf", .T = 60, .H = 2, .D = 64, .group = 16};
  for (const DType type : {DType::f32, DType::bf16}) {
    ReferenceAttention r = reference_of(c, type);
    r.scale = 60;
    const std::vector<double> d_o = random_values(r.B * r.T * r.H * r.D, 4, type);
    const Results got = run_kernels(c, r, type, d_o);
    for (const Floats& values : {got.o, got.lse, got.dq, got.dk, got.dv})
      EXPECT_TRUE(
          std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }));
  }
}

TEST_F(AttentionOnDevice, NotANumberIsNotHidden) {
  for (const DType type : {DType::f32, DType::bf16})
    for (const int64_t T : {1, 40}) {
      const Case c{.T = T, .D = 64};
      ReferenceAttention r = reference_of(c, type);
      r.k[3] = std::numeric_limits<double>::quiet_NaN();
      for (const float x : run_kernels(c, r, type, {}).o) EXPECT_TRUE(std::isnan(x));
    }
}

TEST_F(AttentionOnDevice, TheComparisonSeesThreePercent) {
  for (const DType type : {DType::f32, DType::bf16}) {
    const Case c{.pattern = "sf", .T = 40, .H = 4, .Hkv = 2, .D = 64};
    ReferenceAttention r = reference_of(c, type);
    r.forward();
    const std::vector<double> d_o = random_values(r.B * r.T * r.H * r.D, 4, type);
    r.backward(d_o);
    const Results got = run_kernels(c, r, type, d_o);
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
