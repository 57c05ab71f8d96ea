// Sweeps of MSA-Conv over maps, heads, windows, borders, shifts and pooled keys, against
// tests/reference_msa_conv.h.
#include "tests/reference_msa_conv.h"
#include "tests/sweep/sweep.h"

namespace mullion::sweep {
namespace {

using test::MsaReference;

const std::vector<DType> kFloats{DType::f32, DType::f64};

MsaConvGeometry geometry_of(const Case& c) {
  constexpr int64_t kKernels[][2] = {{1, 1}, {3, 3}, {5, 5}, {7, 7},
                                     {3, 5}, {5, 1}, {2, 2}, {2, 3}};
  MsaConvGeometry g;
  g.batch = c["batch"];
  g.height = c["height"], g.width = c["width"];
  g.heads = c["heads"], g.head_dim = c["head_dim"];
  g.kernel_h = kKernels[c["kernel"]][0], g.kernel_w = kKernels[c["kernel"]][1];
  g.dilation = g.kernel_h % 2 == 0 ? 2 : c["dilation"];
  g.border = c["masked"] ? MsaBorder::masked : MsaBorder::zero_logit;
  g.shift = static_cast<MsaShift>(c["shift"]);
  g.shift_size = g.shift == MsaShift::none ? 0 : c["shift_size"];
  g.direction = static_cast<int>(c["direction"]);
  g.pool = c["pool"];
  g.scale = 1 / std::sqrt(static_cast<double>(g.head_dim));
  g.dropout = static_cast<double>(c["dropout"]) / 10;
  g.seed = 3, g.stream = 4;
  return g;
}

// Pixels of `channels` with a gap after each but the last.
struct Pixels {
  int64_t count, channels, gap;
  int64_t stride() const { return channels + gap; }
  int64_t size() const { return count * stride() - gap; }
  std::vector<double> dense(const Array& a) const {
    std::vector<double> values;
    for (int64_t i = 0; i < count * channels; ++i)
      values.push_back(a[i / channels * stride() + i % channels]);
    return values;
  }
  std::vector<double> spread(const std::vector<double>& values) const {
    std::vector<double> all(static_cast<size_t>(size()), NAN);
    for (int64_t i = 0; i < count * channels; ++i)
      all[static_cast<size_t>(i / channels * stride() + i % channels)] =
          values[static_cast<size_t>(i)];
    return all;
  }
  void expect(Array& a, const std::vector<double>& values, double magnitude) const {
    for (int64_t i = 0; i < count * channels; ++i)
      a.expect(i / channels * stride() + i % channels, values[static_cast<size_t>(i)], magnitude);
  }
};

struct Problem {
  MsaConvGeometry g;
  Pixels queries, keys;
  explicit Problem(const Case& c) : g(geometry_of(c)) {
    const int64_t channels = g.heads * g.head_dim;
    queries = {g.batch * g.height * g.width, channels, c["gap"]};
    keys = {g.batch * g.key_height() * g.key_width(), channels, 2 * c["gap"]};
  }
  MsaReference reference(const Array& q, const Array& k, const Array& v) const {
    return {g, queries.dense(q), keys.dense(k), keys.dense(v), {}, {}, {}, {}, {}};
  }
};

void forward(Case& c) {
  const Problem p(c);
  const int64_t n = p.queries.size(), m = p.keys.size();
  const int64_t rows = p.g.batch * p.g.heads * p.g.height * p.g.width;
  const Array &q = c.in("q", n), &k = c.in("k", m), &v = c.in("v", m);
  Array &o = c.out("o", n), &lse = c.out("lse", rows);
  const int64_t stride = p.queries.stride(), key_stride = p.keys.stride();
  c.call(&KernelTable::msa_conv, MsaConvArgs{.geometry = p.g,
                                             .dtype = c.type(),
                                             .q = q,
                                             .k = k,
                                             .v = v,
                                             .q_stride = stride,
                                             .k_stride = key_stride,
                                             .v_stride = key_stride,
                                             .o = o,
                                             .o_stride = stride,
                                             .lse = lse});
  c.tolerance_factor = 4;
  c.expect([&] {
    MsaReference r = p.reference(q, k, v);
    r.forward();
    p.queries.expect(o, r.o, 0);
    for (int64_t i = 0; i < rows; ++i) {
      const double value = r.lse[static_cast<size_t>(i)];
      // Of a query that sees no key, any number.
      std::isinf(value) ? lse.expect(i, 0, INFINITY) : lse.expect(i, value);
    }
  });
}

void backward(Case& c) {
  const Problem p(c);
  const int64_t n = p.queries.size(), m = p.keys.size();
  const Array &q = c.in("q", n), &k = c.in("k", m), &v = c.in("v", m), &g = c.in("grad_o", n);
  const auto& r = c.keep<MsaReference>([&] {
    MsaReference made = p.reference(q, k, v);
    made.forward();
    made.backward(p.queries.dense(g));
    for (double& value : made.lse)
      if (std::isinf(value)) value = -7e29;  // as the forward has it
    return made;
  });
  const Array &o = c.in("o", p.queries.spread(r.o)), &lse = c.in("lse", r.lse);
  Array &dq = c.out("dq", n), &dk = c.out("dk", m), &dv = c.out("dv", m);
  const int64_t stride = p.queries.stride(), key_stride = p.keys.stride();
  c.call(&KernelTable::msa_conv_backward, MsaConvBackwardArgs{.geometry = p.g,
                                                              .dtype = c.type(),
                                                              .q = q,
                                                              .k = k,
                                                              .v = v,
                                                              .q_stride = stride,
                                                              .k_stride = key_stride,
                                                              .v_stride = key_stride,
                                                              .o = o,
                                                              .lse = lse,
                                                              .grad_o = g,
                                                              .o_stride = stride,
                                                              .grad_o_stride = stride,
                                                              .dq = dq,
                                                              .dk = dk,
                                                              .dv = dv,
                                                              .dq_stride = stride,
                                                              .dk_stride = key_stride,
                                                              .dv_stride = key_stride});
  c.tolerance_factor = 8;
  c.expect([&] {
    const double taps = static_cast<double>(p.g.taps() * p.g.pool * p.g.pool);
    p.queries.expect(dq, r.dq, 1);
    p.keys.expect(dk, r.dk, std::sqrt(taps));
    p.keys.expect(dv, r.dv, std::sqrt(taps));
  });
}

}  // namespace

std::vector<Row> msa_conv_rows() {
  // Register-blocked for head widths of whole vectors, by blocks of up to 16 pixels of a row.
  const std::vector<Axis> sizes{{"height", small_and_around()},
                                {"width", small_and_around({16, 33})},
                                {"head_dim", {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 32}}};
  const std::vector<Axis> flags{
      {"batch", {1, 2}},           {"kernel", {0, 1, 2, 3, 4, 5, 6, 7, 1, 2, 3}},
      {"dilation", {1, 2, 3}},     {"masked", {0, 1}},
      {"shift", {0, 1, 2}},        {"shift_size", {1, 3}},
      {"direction", {0, 1, 2, 3}}, {"pool", {1, 1, 2, 3}},
      {"dropout", {0, 0, 3}},      {"gap", {0, 5}}};
  const auto with = [](std::vector<Axis> axes, const Axis& more) {
    axes.push_back(more);
    return axes;
  };
  const std::vector<Axis> few = with(flags, {"heads", {1, 2, 3, 4}});
  std::vector<Row> rows{
      {"msa_conv", {MULLION_SLOT(msa_conv)}, kFloats, sizes, forward, few, 1},
      {"msa_conv_backward", {MULLION_SLOT(msa_conv_backward)}, kFloats, sizes, backward, few, 1}};
  // Several bands of rows.
  for (Row& row : rows) row.more_sizes = {{61, 33, 16}, {47, 40, 8}, {50, 35, 17}};
  // Each channel a head: by vectors of channels that are shifted alike, else as above.
  const std::vector<Axis> maps{{"height", {1, 2, 3, 5, 17}},
                               {"width", {1, 2, 7, 9}},
                               {"heads", {4, 8, 12, 16, 20, 24, 32, 48, 64}}};
  const std::vector<Axis> depthwise = with(flags, {"head_dim", {1}});
  rows.push_back(
      {"msa_conv_depthwise", {MULLION_SLOT(msa_conv)}, kFloats, maps, forward, depthwise, 1});
  rows.push_back({"msa_conv_depthwise_backward",
                  {MULLION_SLOT(msa_conv_backward)},
                  kFloats,
                  maps,
                  backward,
                  depthwise,
                  1});
  return rows;
}

}  // namespace mullion::sweep
