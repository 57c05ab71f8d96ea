// Sweeps of pooling, the depthwise convolution and the unfolding of patches
// (kernel_args/pooling.h).
#include "tensor/cpu/pack.h"
#include "tests/sweep/sweep.h"

namespace mullion::sweep {
namespace {

constexpr int64_t kLanes = cpu::Pack<float>::kLanes;
const std::vector<DType> kFloats{DType::f32, DType::f64};

std::vector<Axis> maps() {
  return {{"height", small_and_around()},
          {"width", small_and_around()},
          {"channels", small_and_around({kLanes})}};
}

struct Map : MapSize {
  int64_t gap = 0;
  explicit Map(const Case& c) : MapSize{c["batch"], c["height"], c["width"], c["channels"]} {}
  Map pooled(int64_t ratio) const {
    Map m = *this;
    m.height = (height + ratio - 1) / ratio;
    m.width = (width + ratio - 1) / ratio;
    return m;
  }
  Map with_gap(int64_t g) const {
    Map m = *this;
    m.gap = g;
    return m;
  }
  int64_t stride() const { return channels + gap; }
  int64_t size() const { return batch * height * width * stride() - gap; }
  int64_t at(int64_t b, int64_t y, int64_t x, int64_t n) const {
    return ((b * height + y) * width + x) * stride() + n;
  }
  bool has(int64_t y, int64_t x) const { return y >= 0 && y < height && x >= 0 && x < width; }
  template <typename F>
  void for_elements(F f) const {
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < width; ++x)
          for (int64_t n = 0; n < channels; ++n) f(b, y, x, n);
  }
};

void max_pool2(Case& c) {
  const Map m(c), out = m.pooled(2);
  const Array& x = c.in("x", m.size());
  Array &y = c.out("y", out.size()),
        &chosen = c.out_if(c["chosen"], "chosen", DType::u8, out.size());
  c.call(&KernelTable::max_pool2,
         MaxPool2Args{.dtype = c.type(), .map = m, .x = x, .y = y, .chosen = chosen});
  c.expect([&] {
    out.for_elements([&](int64_t b, int64_t oy, int64_t ox, int64_t n) {
      int64_t best = 0;
      const auto value = [&](int64_t i) { return x[m.at(b, 2 * oy + i / 2, 2 * ox + i % 2, n)]; };
      for (int64_t i = 1; i < 4; ++i)
        if (m.has(2 * oy + i / 2, 2 * ox + i % 2) && value(i) > value(best)) best = i;
      y.expect(out.at(b, oy, ox, n), value(best));
      chosen.expect(out.at(b, oy, ox, n), static_cast<double>(best));
    });
  });
}

void max_pool2_backward(Case& c) {
  const Map m(c), out = m.pooled(2);
  const Array &g = c.in("grad_y", out.size()),
              &chosen = c.in("chosen", DType::u8, out.size(), 0, 4);
  Array& dx = c.out("dx", m.size());
  c.call(
      &KernelTable::max_pool2_backward,
      MaxPool2BackwardArgs{.dtype = c.type(), .map = m, .grad_y = g, .chosen = chosen, .dx = dx});
  c.expect([&] {
    m.for_elements([&](int64_t b, int64_t y, int64_t x, int64_t n) {
      const int64_t from = out.at(b, y / 2, x / 2, n);
      const bool is_chosen = chosen[from] == static_cast<double>(y % 2 * 2 + x % 2);
      dx.expect(m.at(b, y, x, n), is_chosen ? g[from] : 0);
    });
  });
}

// Pixels of the window of (oy, ox) along one axis.
int64_t cut(int64_t at, int64_t ratio, int64_t size) { return std::min(ratio, size - at * ratio); }

void average_pool(Case& c) {
  const int64_t r = c["ratio"];
  const Map m = Map(c).with_gap(c["gap"]), out = m.pooled(r);
  const Array& x = c.in("x", m.size());
  Array& y = c.out("y", out.size());
  c.call(&KernelTable::average_pool, AveragePoolArgs{.dtype = c.type(),
                                                     .map = m,
                                                     .ratio = r,
                                                     .x = x,
                                                     .y = y,
                                                     .x_stride = m.stride(),
                                                     .y_stride = out.stride()});
  c.expect([&] {
    out.for_elements([&](int64_t b, int64_t oy, int64_t ox, int64_t n) {
      double sum = 0;
      for (int64_t i = 0; i < r; ++i)
        for (int64_t j = 0; j < r; ++j)
          if (m.has(oy * r + i, ox * r + j)) sum += x[m.at(b, oy * r + i, ox * r + j, n)];
      const int64_t pixels = cut(oy, r, m.height) * cut(ox, r, m.width);
      y.expect(out.at(b, oy, ox, n), sum / static_cast<double>(pixels), 1);
    });
  });
}

void average_pool_backward(Case& c) {
  const int64_t r = c["ratio"];
  const Map m = Map(c).with_gap(c["gap"]), out = m.pooled(r);
  const Array& g = c.in("grad_y", out.size());
  Array& dx = c.out("dx", m.size());
  c.call(&KernelTable::average_pool_backward, AveragePoolBackwardArgs{.dtype = c.type(),
                                                                      .map = m,
                                                                      .ratio = r,
                                                                      .grad_y = g,
                                                                      .dx = dx,
                                                                      .grad_y_stride = out.stride(),
                                                                      .dx_stride = m.stride()});
  c.expect([&] {
    m.for_elements([&](int64_t b, int64_t y, int64_t x, int64_t n) {
      const int64_t pixels = cut(y / r, r, m.height) * cut(x / r, r, m.width);
      dx.expect(m.at(b, y, x, n), g[out.at(b, y / r, x / r, n)] / static_cast<double>(pixels));
    });
  });
}

void depthwise_conv3(Case& c) {
  const Map m(c);
  const Array &x = c.in("x", m.size()), &weight = c.in("weight", 9 * m.channels),
              &bias = c.in_if(c["bias"], "bias", m.channels);
  Array& y = c.out("y", m.size());
  c.call(&KernelTable::depthwise_conv3,
         DepthwiseConv3Args{
             .dtype = c.type(), .map = m, .x = x, .weight = weight, .bias = bias, .y = y});
  c.tolerance_factor = 4;
  c.expect([&] {
    m.for_elements([&](int64_t b, int64_t oy, int64_t ox, int64_t n) {
      double sum = c["bias"] ? bias[n] : 0;
      for (int64_t t = 0; t < 9; ++t)
        if (m.has(oy + t / 3 - 1, ox + t % 3 - 1))
          sum += weight[n * 9 + t] * x[m.at(b, oy + t / 3 - 1, ox + t % 3 - 1, n)];
      y.expect(m.at(b, oy, ox, n), sum);
    });
  });
}

void depthwise_conv3_backward(Case& c) {
  const Map m(c);
  const Array &x = c.in("x", m.size()), &weight = c.in("weight", 9 * m.channels),
              &g = c.in("grad_y", m.size());
  Array &dx = c.out_if(c["dx"], "dx", m.size()),
        &dw = c.out_if(c["dweight"], "dweight", 9 * m.channels),
        &db = c.out_if(c["dbias"], "dbias", m.channels);
  c.call(&KernelTable::depthwise_conv3_backward, DepthwiseConv3BackwardArgs{.dtype = c.type(),
                                                                            .map = m,
                                                                            .x = x,
                                                                            .weight = weight,
                                                                            .grad_y = g,
                                                                            .dx = dx,
                                                                            .dweight = dw,
                                                                            .dbias = db});
  c.tolerance_factor = 4;
  c.expect([&] {
    std::vector<double> sum_x(static_cast<size_t>(m.size())),
        sum_w(static_cast<size_t>(9 * m.channels)), sum_b(static_cast<size_t>(m.channels));
    m.for_elements([&](int64_t b, int64_t oy, int64_t ox, int64_t n) {
      const double gradient = g[m.at(b, oy, ox, n)];
      sum_b[static_cast<size_t>(n)] += gradient;
      for (int64_t t = 0; t < 9; ++t) {
        if (!m.has(oy + t / 3 - 1, ox + t % 3 - 1)) continue;
        const int64_t from = m.at(b, oy + t / 3 - 1, ox + t % 3 - 1, n);
        sum_x[static_cast<size_t>(from)] += weight[n * 9 + t] * gradient;
        sum_w[static_cast<size_t>(n * 9 + t)] += x[from] * gradient;
      }
    });
    const double pixels = static_cast<double>(m.batch * m.height * m.width);
    for (int64_t i = 0; i < m.size(); ++i) dx.expect(i, sum_x[static_cast<size_t>(i)], 1);
    for (int64_t i = 0; i < 9 * m.channels; ++i)
      dw.expect(i, sum_w[static_cast<size_t>(i)], pixels / 4);
    for (int64_t i = 0; i < m.channels; ++i)
      db.expect(i, sum_b[static_cast<size_t>(i)], pixels / 4);
  });
}

PatchGeometry patches(const Case& c, const Map& m) {
  PatchGeometry g{m.batch,       m.height,    m.width,    m.channels, c["kernel_h"],
                  c["kernel_w"], c["stride"], c["pad_h"], c["pad_w"], c["dilation"]};
  // Where the window does not fit the map, one that does.
  if (g.dilation * (g.kernel_h - 1) >= g.height + 2 * g.pad_h) g.kernel_h = 1;
  if (g.dilation * (g.kernel_w - 1) >= g.width + 2 * g.pad_w) g.kernel_w = 1;
  return g;
}

// Calls f(element of the rows, element of the map or -1) for all elements of the rows.
template <typename F>
void for_patches(const PatchGeometry& g, const Map& m, F f) {
  int64_t at = 0;
  for (int64_t b = 0; b < g.batch; ++b)
    for (int64_t oy = 0; oy < g.out_height(); ++oy)
      for (int64_t ox = 0; ox < g.out_width(); ++ox)
        for (int64_t i = 0; i < g.kernel_h; ++i)
          for (int64_t j = 0; j < g.kernel_w; ++j)
            for (int64_t n = 0; n < g.channels; ++n) {
              const int64_t y = oy * g.stride - g.pad_h + i * g.dilation;
              const int64_t x = ox * g.stride - g.pad_w + j * g.dilation;
              f(at++, m.has(y, x) ? m.at(b, y, x, n) : -1);
            }
}

int64_t rows_size(const PatchGeometry& g) {
  return g.batch * g.out_height() * g.out_width() * g.row_size();
}

void im2col(Case& c) {
  const Map m(c);
  const PatchGeometry g = patches(c, m);
  const Array& x = c.in("x", m.size());
  Array& rows = c.out("rows", rows_size(g));
  c.call(&KernelTable::im2col, Im2ColArgs{.dtype = c.type(), .geometry = g, .x = x, .rows = rows});
  c.expect([&] {
    for_patches(g, m, [&](int64_t to, int64_t from) { rows.expect(to, from < 0 ? 0 : x[from]); });
  });
}

void col2im(Case& c) {
  const Map m(c);
  const PatchGeometry g = patches(c, m);
  const Array& rows = c.in("rows", rows_size(g));
  Array& x = c.out("x", m.size());
  c.call(&KernelTable::col2im, Col2ImArgs{.dtype = c.type(), .geometry = g, .rows = rows, .x = x});
  c.tolerance_factor = 2;
  c.expect([&] {
    std::vector<double> sums(static_cast<size_t>(m.size()));
    for_patches(g, m, [&](int64_t from, int64_t to) {
      if (to >= 0) sums[static_cast<size_t>(to)] += rows[from];
    });
    for (int64_t i = 0; i < m.size(); ++i) x.expect(i, sums[static_cast<size_t>(i)], 1);
  });
}

}  // namespace

std::vector<Row> map_rows() {
  const Axis batch{"batch", {1, 2}}, gap{"gap", {0, 3}}, ratio{"ratio", {1, 2, 3, 4}};
  const std::vector<Axis> geometry{batch,
                                   {"kernel_h", {1, 2, 3}},
                                   {"kernel_w", {1, 2, 3}},
                                   {"stride", {1, 2, 3}},
                                   {"pad_h", {0, 1, 2}},
                                   {"pad_w", {0, 1, 2}},
                                   {"dilation", {1, 2}}};
  return {
      {"max_pool2",
       {MULLION_SLOT(max_pool2)},
       kFloats,
       maps(),
       max_pool2,
       {batch, {"chosen", {0, 1}}}},
      {"max_pool2_backward",
       {MULLION_SLOT(max_pool2_backward)},
       kFloats,
       maps(),
       max_pool2_backward,
       {batch}},
      {"average_pool",
       {MULLION_SLOT(average_pool)},
       kFloats,
       maps(),
       average_pool,
       {batch, gap, ratio}},
      {"average_pool_backward",
       {MULLION_SLOT(average_pool_backward)},
       kFloats,
       maps(),
       average_pool_backward,
       {batch, gap, ratio}},
      {"depthwise_conv3",
       {MULLION_SLOT(depthwise_conv3)},
       kFloats,
       maps(),
       depthwise_conv3,
       {batch, {"bias", {0, 1}}}},
      {"depthwise_conv3_backward",
       {MULLION_SLOT(depthwise_conv3_backward)},
       kFloats,
       maps(),
       depthwise_conv3_backward,
       {batch, {"dx", {0, 1}}, {"dweight", {0, 1}}, {"dbias", {0, 1}}}},
      {"im2col", {MULLION_SLOT(im2col)}, kFloats, maps(), im2col, geometry},
      {"col2im", {MULLION_SLOT(col2im)}, kFloats, maps(), col2im, geometry},
  };
}

}  // namespace mullion::sweep
