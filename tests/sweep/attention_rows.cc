// Sweeps of attention over head ratios, patterns, strides and lengths around its strips of queries
// and tiles of keys, against tests/reference_attention.h.
#include "tensor/cpu/attention_tiles.h"
#include "tests/reference_attention.h"
#include "tests/sweep/sweep.h"

namespace mullion::sweep {
namespace {

using test::ReferenceAttention;

const std::vector<DType> kFloats{DType::f32, DType::f64};
constexpr int64_t kLanes = cpu::kLanes<float>, kStrip = cpu::kStrip<float>;
constexpr int64_t kHeads[][2] = {{1, 1}, {2, 2}, {2, 1}, {3, 1}, {4, 2}, {8, 4}};

// (batch, tokens, heads, D) with a gap after each token but the last.
struct Lines {
  int64_t batch, tokens, heads, D, gap;
  AttentionStrides strides() const { return {tokens * (heads * D + gap), heads * D + gap, D}; }
  int64_t size() const { return batch * tokens * (heads * D + gap) - gap; }
  // Calls f(number of an element without gaps, its place).
  template <typename F>
  void for_elements(F f) const {
    const int64_t width = heads * D;
    for (int64_t i = 0; i < batch * tokens * width; ++i)
      f(static_cast<size_t>(i), i / width * (width + gap) + i % width);
  }
  std::vector<double> dense(const Array& a) const {
    std::vector<double> values(static_cast<size_t>(batch * tokens * heads * D));
    for_elements([&](size_t i, int64_t at) { values[i] = a[at]; });
    return values;
  }
  std::vector<double> spread(const std::vector<double>& values) const {
    std::vector<double> all(static_cast<size_t>(size()), NAN);
    for_elements([&](size_t i, int64_t at) { all[static_cast<size_t>(at)] = values[i]; });
    return all;
  }
  void expect(Array& a, const std::vector<double>& values, double magnitude) const {
    for_elements([&](size_t i, int64_t at) { a.expect(at, values[i], magnitude); });
  }
};

// The preset of a combination, or a near one where its numbers do not fit together.
AttentionPattern pattern_of(const Case& c, int64_t heads, int64_t context, bool is_self) {
  PatternOptions options;
  options.n_heads = heads;
  options.context = context;
  options.group_size = c["group"];
  std::string name = pattern_names()[static_cast<size_t>(c["pattern"])];
  const bool rolls = name.find("leaky") != name.npos || name.find("only") != name.npos;
  if (rolls && (!is_self || context % options.group_size != 0)) name = "s2";
  if (name.find("sf") != name.npos || name.find("global") != name.npos)
    options.sinks = std::min(c["sinks"], options.group_size);
  AttentionPattern p = make_pattern(name, options);
  const bool may_be_open = p.kind == PatternKind::full || p.kind == PatternKind::segments;
  p.causal = c["causal"] || !may_be_open;
  p.sink_query_noncausal = c["open_sinks"] && is_self;
  return p;
}

struct Problem {
  ReferenceAttention r{};
  Lines queries, keys;
  AttentionSizes sizes;  // but the pattern

  Problem(const Case& c, int64_t before) {
    r.H = kHeads[c["heads"]][0], r.Hkv = kHeads[c["heads"]][1];
    r.B = c["batch"], r.T = c["T"], r.S = r.T + before, r.D = c["D"];
    r.query_offset = before;
    r.scale = 1.3 / std::sqrt(static_cast<double>(r.D));
    r.pattern = pattern_of(c, r.H, r.S, before == 0);
    queries = {r.B, r.T, r.H, r.D, c["gap"]};
    keys = {r.B, r.S, r.Hkv, r.D, 2 * c["gap"]};
    sizes = {r.B, r.T, r.S, r.H, r.Hkv, r.D, r.scale, r.query_offset, c.type()};
  }
};

void forward(Case& c) {
  Problem p(c, c["before"]);
  p.sizes.pattern = &p.r.pattern;
  const Array &q = c.in("q", p.queries.size(), -2, 2), &k = c.in("k", p.keys.size(), -2, 2),
              &v = c.in("v", p.keys.size());
  Array &o = c.out("o", p.queries.size()),
        &lse = c.out_if(c["lse"] || c["sums"], "lse", p.r.B * p.r.H * p.r.T),
        &sums = c.out_if(c["sums"], "column sums", p.r.B * p.r.H * p.r.S);
  const auto scratch_size =
      static_cast<int64_t>(c.ask(&KernelTable::attention_forward_scratch, p.sizes));
  AttentionForwardArgs args{.size = p.sizes,
                            .q = q,
                            .k = k,
                            .v = v,
                            .o = o,
                            .lse = lse,
                            .scratch = nullptr,
                            .q_stride = {},
                            .k_stride = {},
                            .v_stride = {},
                            .o_stride = {}};
  Array& scratch = c.scratch("scratch", scratch_size);
  args.scratch = scratch;
  args.column_sums = sums;
  args.sums_from = p.r.sums_from = c["sums"] == 2 ? p.r.T / 2 : 0;
  args.q_stride = args.o_stride = p.queries.strides();
  args.k_stride = args.v_stride = p.keys.strides();
  c.call(&KernelTable::attention_forward, args);
  c.tolerance_factor = 4;
  c.expect([&] {
    p.r.q = p.queries.dense(q), p.r.k = p.keys.dense(k), p.r.v = p.keys.dense(v);
    p.r.forward();
    p.queries.expect(o, p.r.o, 0);
    for (int64_t i = 0; i < p.r.B * p.r.H * p.r.T; ++i)
      lse.expect(i, p.r.lse[static_cast<size_t>(i)]);
    for (int64_t i = 0; i < p.r.B * p.r.H * p.r.S; ++i)
      sums.expect(i, p.r.sums[static_cast<size_t>(i)], static_cast<double>(p.r.T));
  });
}

void backward(Case& c) {
  Problem p(c, 0);
  p.sizes.pattern = &p.r.pattern;
  const int64_t n = p.queries.size(), m = p.keys.size();
  const Array &q = c.in("q", n, -2, 2), &k = c.in("k", m, -2, 2), &v = c.in("v", m),
              &d_o = c.in("d_o", n);
  const auto& r = c.keep<ReferenceAttention>([&] {
    ReferenceAttention made = p.r;
    made.q = p.queries.dense(q), made.k = p.keys.dense(k), made.v = p.keys.dense(v);
    made.forward();
    made.backward(p.queries.dense(d_o));
    return made;
  });
  const Array &o = c.in("o", p.queries.spread(r.o)), &lse = c.in("lse", r.lse);
  Array &dq = c.out("dq", n), &dk = c.out("dk", m), &dv = c.out("dv", m);
  Array& scratch = c.scratch(
      "scratch", static_cast<int64_t>(c.ask(&KernelTable::attention_backward_scratch, p.sizes)));
  AttentionBackwardArgs args{.size = p.sizes,
                             .q = q,
                             .k = k,
                             .v = v,
                             .o = o,
                             .lse = lse,
                             .d_o = d_o,
                             .dq = dq,
                             .dk = dk,
                             .dv = dv,
                             .scratch = scratch,
                             .q_stride = {},
                             .k_stride = {},
                             .v_stride = {},
                             .o_stride = {},
                             .d_o_stride = {},
                             .dq_stride = {},
                             .dk_stride = {},
                             .dv_stride = {}};
  args.q_stride = args.o_stride = args.d_o_stride = args.dq_stride = p.queries.strides();
  args.k_stride = args.v_stride = args.dk_stride = args.dv_stride = p.keys.strides();
  c.call(&KernelTable::attention_backward, args);
  c.tolerance_factor = 8;
  c.expect([&] {
    const double terms = static_cast<double>(r.T);
    p.queries.expect(dq, r.dq, std::sqrt(terms));
    p.keys.expect(dk, r.dk, terms);
    p.keys.expect(dv, r.dv, terms);
  });
}

std::vector<Axis> flags() {
  return {{"pattern", {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}},
          {"group", {2, 4, 6, 8, 16}},
          {"sinks", {0, 1, 3, 4}},
          {"causal", {1, 0}},
          {"open_sinks", {0, 1}},
          {"batch", {1, 2}},
          {"gap", {0, 5}},
          {"lse", {1, 0}},
          {"sums", {0, 1, 2}}};
}

}  // namespace

std::vector<Row> attention_rows() {
  const Axis tokens{"T", small_and_around({kLanes, kStrip / 2, kStrip})};
  const Axis width{"D", small_and_around({kLanes, 2 * kLanes})};
  const Axis heads{"heads", {0, 1, 2, 3, 4}};
  std::vector<Row> rows{
      {"attention_forward",
       {MULLION_SLOT(attention_forward), MULLION_SLOT(attention_forward_scratch)},
       kFloats,
       {tokens, width, heads, {"before", {0, 1, 6}}},
       forward,
       flags()},
      {"attention_backward",
       {MULLION_SLOT(attention_backward), MULLION_SLOT(attention_backward_scratch)},
       kFloats,
       {tokens, width, heads},
       backward,
       flags(),
       3}};
  // A tile of keys is kTileKeys long, a part of decoding 512, and 64 where the heads are wide.
  for (const int64_t T : {1, 2, 17})
    for (const int64_t D : {5, 16, 17})
      for (int64_t h = 0; h < 5; ++h)
        for (const int64_t before : {63, 64, 65, 126, 127, 128, 129, 511, 512, 513})
          rows[0].more_sizes.push_back({T, D, h, before});
  for (const int64_t before : {62, 63, 64, 65, 127, 128})
    rows[0].more_sizes.push_back({1, 193, 5, before});
  for (const int64_t T : {127, 128, 129, 193})
    for (const int64_t h : {0, 2, 3}) {
      rows[0].more_sizes.push_back({T, 3, h, 0});
      rows[1].more_sizes.push_back({T, 3, h});
    }
  return rows;
}

}  // namespace mullion::sweep
