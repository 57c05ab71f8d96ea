// Sweeps of the normalisations, RoPE, softmax and the losses (kernel_args/norm.h).
#include "tensor/cpu/pack.h"
#include "tests/sweep/sweep.h"

namespace mullion::sweep {
namespace {

constexpr int64_t kLanes = cpu::Pack<float>::kLanes;
const std::vector<DType> kFloats{DType::f32, DType::f64};
constexpr double kEps = 1e-3;

// Sums over rows go in chunks of 32, sums along one by one, two or four registers.
std::vector<Axis> rows_and_widths() {
  return {{"rows", small_and_around({32, 64})},
          {"width", small_and_around({kLanes, 2 * kLanes, 4 * kLanes})}};
}

double sum(int64_t n, const std::function<double(int64_t)>& term) {
  double total = 0;
  for (int64_t i = 0; i < n; ++i) total += term(i);
  return total;
}

void rms_norm(Case& c) {
  const int64_t rows = c["rows"], width = c["width"];
  const Array &x = c.in("x", rows * width), &weight = c.in("weight", width);
  Array &y = c.out("y", rows * width), &rstd = c.out("rstd", rows);
  c.call(&KernelTable::rms_norm, RmsNormArgs{.x = x,
                                             .weight = weight,
                                             .y = y,
                                             .rstd = rstd,
                                             .dtype = c.type(),
                                             .rows = rows,
                                             .width = width,
                                             .eps = kEps});
  c.tolerance_factor = 4;
  c.expect([&] {
    for (int64_t r = 0; r < rows; ++r) {
      const double n = static_cast<double>(width);
      const double squares =
          sum(width, [&](int64_t i) { return x[r * width + i] * x[r * width + i]; });
      const double scale = 1 / std::sqrt(squares / n + kEps);
      rstd.expect(r, scale);
      for (int64_t i = 0; i < width; ++i)
        y.expect(r * width + i, x[r * width + i] * scale * weight[i]);
    }
  });
}

void rms_norm_backward(Case& c) {
  const int64_t rows = c["rows"], width = c["width"];
  const Array &x = c.in("x", rows * width), &weight = c.in("weight", width),
              &rstd = c.in("rstd", rows, 0.5, 2), &g = c.in("g", rows * width);
  Array &dx = c.out_if(c["dx"], "dx", rows * width), &dw = c.out_if(c["dweight"], "dweight", width);
  c.call(&KernelTable::rms_norm_backward, RmsNormBackwardArgs{.x = x,
                                                              .weight = weight,
                                                              .rstd = rstd,
                                                              .g = g,
                                                              .dx = dx,
                                                              .dweight = dw,
                                                              .dtype = c.type(),
                                                              .rows = rows,
                                                              .width = width});
  c.tolerance_factor = 8;
  c.expect([&] {
    for (int64_t r = 0; r < rows; ++r) {
      const auto ux = [&](int64_t i) { return g[r * width + i] * weight[i] * x[r * width + i]; };
      const double mean = sum(width, ux) / static_cast<double>(width);
      for (int64_t i = 0; i < width; ++i)
        dx.expect(r * width + i, rstd[r] * (g[r * width + i] * weight[i] -
                                            x[r * width + i] * rstd[r] * rstd[r] * mean));
    }
    for (int64_t i = 0; i < width; ++i)
      dw.expect(i,
                sum(rows, [&](int64_t r) { return g[r * width + i] * x[r * width + i] * rstd[r]; }),
                static_cast<double>(rows));
  });
}

void layer_norm(Case& c) {
  const int64_t rows = c["rows"], width = c["width"];
  const Array &x = c.in("x", rows * width), &weight = c.in("weight", width),
              &bias = c.in("bias", width);
  Array &y = c.out("y", rows * width), &mean = c.out("mean", rows), &rstd = c.out("rstd", rows);
  c.call(&KernelTable::layer_norm, LayerNormArgs{.x = x,
                                                 .weight = weight,
                                                 .bias = bias,
                                                 .y = y,
                                                 .mean = mean,
                                                 .rstd = rstd,
                                                 .dtype = c.type(),
                                                 .rows = rows,
                                                 .width = width,
                                                 .eps = kEps});
  c.tolerance_factor = 16;  // a row of one or two elements has a variance near 0
  c.expect([&] {
    for (int64_t r = 0; r < rows; ++r) {
      const double n = static_cast<double>(width);
      const double m = sum(width, [&](int64_t i) { return x[r * width + i]; }) / n;
      const double variance =
          sum(width, [&](int64_t i) { return (x[r * width + i] - m) * (x[r * width + i] - m); }) /
          n;
      const double scale = 1 / std::sqrt(variance + kEps);
      mean.expect(r, m);
      rstd.expect(r, scale);
      for (int64_t i = 0; i < width; ++i)
        y.expect(r * width + i, (x[r * width + i] - m) * scale * weight[i] + bias[i]);
    }
  });
}

void layer_norm_backward(Case& c) {
  const int64_t rows = c["rows"], width = c["width"];
  const Array &x = c.in("x", rows * width), &weight = c.in("weight", width),
              &mean = c.in("mean", rows), &rstd = c.in("rstd", rows, 0.5, 2),
              &g = c.in("g", rows * width);
  Array &dx = c.out_if(c["dx"], "dx", rows * width), &dw = c.out_if(c["dweight"], "dweight", width),
        &db = c.out_if(c["dbias"], "dbias", width);
  c.call(&KernelTable::layer_norm_backward, LayerNormBackwardArgs{.x = x,
                                                                  .weight = weight,
                                                                  .mean = mean,
                                                                  .rstd = rstd,
                                                                  .g = g,
                                                                  .dx = dx,
                                                                  .dweight = dw,
                                                                  .dbias = db,
                                                                  .dtype = c.type(),
                                                                  .rows = rows,
                                                                  .width = width});
  c.tolerance_factor = 16;
  c.expect([&] {
    const double n = static_cast<double>(width), many = static_cast<double>(rows);
    for (int64_t r = 0; r < rows; ++r) {
      const auto z = [&](int64_t i) { return (x[r * width + i] - mean[r]) * rstd[r]; };
      const auto u = [&](int64_t i) { return g[r * width + i] * weight[i]; };
      const double mean_u = sum(width, u) / n;
      const double mean_uz = sum(width, [&](int64_t i) { return u(i) * z(i); }) / n;
      for (int64_t i = 0; i < width; ++i)
        dx.expect(r * width + i, rstd[r] * (u(i) - mean_u - z(i) * mean_uz));
    }
    for (int64_t i = 0; i < width; ++i) {
      dw.expect(
          i,
          sum(rows,
              [&](int64_t r) { return g[r * width + i] * (x[r * width + i] - mean[r]) * rstd[r]; }),
          many);
      db.expect(i, sum(rows, [&](int64_t r) { return g[r * width + i]; }), many);
    }
  });
}

void rope(Case& c) {
  const int64_t batch = c["batch"], tokens = c["tokens"], heads = c["heads"], half = c["half"];
  const int64_t n = batch * tokens * heads * 2 * half;
  const Array &x = c.in("x", n), &cosine = c.in("cos", tokens * half),
              &sine = c.in("sin", tokens * half);
  Array& y = c.out("y", n);
  c.call(&KernelTable::rope, RopeArgs{.x = x,
                                      .cos = cosine,
                                      .sin = sine,
                                      .y = y,
                                      .dtype = c.type(),
                                      .batch = batch,
                                      .tokens = tokens,
                                      .heads = heads,
                                      .head_dim = 2 * half,
                                      .inverse = c["inverse"] != 0});
  c.expect([&] {
    for (int64_t head = 0; head < batch * tokens * heads; ++head)
      for (int64_t i = 0; i < half; ++i) {
        const int64_t angle = head / heads % tokens * half + i, at = head * 2 * half + i;
        const double s = c["inverse"] ? -sine[angle] : sine[angle];
        y.expect(at, x[at] * cosine[angle] - x[at + half] * s);
        y.expect(at + half, x[at + half] * cosine[angle] + x[at] * s);
      }
  });
}

// log of the sum of exp(x) over a row.
double logsumexp(const Array& x, int64_t row, int64_t width) {
  return std::log(sum(width, [&](int64_t i) { return std::exp(x[row * width + i]); }));
}

void softmax(Case& c) {
  const int64_t rows = c["rows"], width = c["width"];
  const Array& x = c.in("x", rows * width, -5, 5);
  Array& y = c.out("y", rows * width);
  c.call(&KernelTable::softmax,
         SoftmaxArgs{.x = x, .y = y, .dtype = c.type(), .rows = rows, .width = width});
  c.expect([&] {
    for (int64_t i = 0; i < rows * width; ++i)
      y.expect(i, std::exp(x[i] - logsumexp(x, i / width, width)));
  });
}

void softmax_backward(Case& c) {
  const int64_t rows = c["rows"], width = c["width"];
  const Array &y = c.in("y", rows * width, 0, 1), &g = c.in("g", rows * width);
  Array& dx = c.out("dx", rows * width);
  c.call(&KernelTable::softmax_backward,
         SoftmaxBackwardArgs{
             .y = y, .g = g, .dx = dx, .dtype = c.type(), .rows = rows, .width = width});
  c.expect([&] {
    for (int64_t r = 0; r < rows; ++r) {
      const double dot = sum(width, [&](int64_t i) { return y[r * width + i] * g[r * width + i]; });
      for (int64_t i = r * width; i < (r + 1) * width; ++i)
        dx.expect(i, y[i] * (g[i] - dot), static_cast<double>(width) / 4);
    }
  });
}

void cross_entropy(Case& c) {
  const int64_t rows = c["rows"], width = c["width"];
  std::vector<int64_t> classes(static_cast<size_t>(rows));
  for (int64_t r = 0; r < rows; ++r)  // every so often -1, which is ignored
    classes[static_cast<size_t>(r)] =
        static_cast<int64_t>(c.uniform(r) * static_cast<double>(width + 1)) - 1;
  const Array& targets = c.in("targets", classes);
  Array &logits = c.in_out("logits", rows * width, -5, 5), &loss = c.out("loss", rows);
  c.call(&KernelTable::cross_entropy, CrossEntropyArgs{.logits = logits,
                                                       .targets = targets,
                                                       .loss = loss,
                                                       .dtype = c.type(),
                                                       .rows = rows,
                                                       .width = width,
                                                       .write_grad = c["write_grad"] != 0});
  c.tolerance_factor = 2;
  c.expect([&] {
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t target = classes[static_cast<size_t>(r)];
      const double total = logsumexp(logits, r, width);
      loss.expect(r, target < 0 ? 0 : total - logits[r * width + target], std::abs(total));
      for (int64_t i = 0; c["write_grad"] && i < width; ++i)
        logits.expect(r * width + i, target < 0 ? 0
                                                : std::exp(logits[r * width + i] - total) -
                                                      static_cast<double>(i == target));
    }
  });
}

void soft_cross_entropy(Case& c) {
  const int64_t rows = c["rows"], width = c["width"];
  const Array &x = c.in("logits", rows * width, -5, 5), &p = c.in("p", rows * width, 0, 1);
  Array &loss = c.out("loss", rows), &dx = c.out_if(c["dlogits"], "dlogits", rows * width);
  c.call(&KernelTable::soft_cross_entropy, SoftCrossEntropyArgs{.logits = x,
                                                                .probabilities = p,
                                                                .loss = loss,
                                                                .dlogits = dx,
                                                                .dtype = c.type(),
                                                                .rows = rows,
                                                                .width = width});
  c.tolerance_factor = 4;
  c.expect([&] {
    for (int64_t r = 0; r < rows; ++r) {
      const double total = logsumexp(x, r, width);
      const double weight = sum(width, [&](int64_t i) { return p[r * width + i]; });
      loss.expect(
          r, sum(width, [&](int64_t i) { return p[r * width + i] * (total - x[r * width + i]); }));
      for (int64_t i = r * width; i < (r + 1) * width; ++i)
        dx.expect(i, std::exp(x[i] - total) * weight - p[i]);
    }
  });
}

}  // namespace

std::vector<Row> row_rows() {
  const Axis dx{"dx", {0, 1}}, dweight{"dweight", {0, 1}}, dbias{"dbias", {0, 1}};
  return {
      {"rms_norm", {MULLION_SLOT(rms_norm)}, kFloats, rows_and_widths(), rms_norm},
      {"rms_norm_backward",
       {MULLION_SLOT(rms_norm_backward)},
       kFloats,
       rows_and_widths(),
       rms_norm_backward,
       {dx, dweight},
       0},
      {"layer_norm", {MULLION_SLOT(layer_norm)}, kFloats, rows_and_widths(), layer_norm},
      {"layer_norm_backward",
       {MULLION_SLOT(layer_norm_backward)},
       kFloats,
       rows_and_widths(),
       layer_norm_backward,
       {dx, dweight, dbias},
       0},
      {"rope",
       {MULLION_SLOT(rope)},
       kFloats,
       {{"batch", {1, 2, 3}},
        {"tokens", small_and_around()},
        {"heads", {1, 2, 3}},
        {"half", small_and_around({kLanes, 2 * kLanes})}},
       rope,
       {{"inverse", {0, 1}}}},
      {"softmax", {MULLION_SLOT(softmax)}, kFloats, rows_and_widths(), softmax},
      {"softmax_backward",
       {MULLION_SLOT(softmax_backward)},
       kFloats,
       rows_and_widths(),
       softmax_backward},
      {"cross_entropy",
       {MULLION_SLOT(cross_entropy)},
       kFloats,
       rows_and_widths(),
       cross_entropy,
       {{"write_grad", {0, 1}}}},
      {"soft_cross_entropy",
       {MULLION_SLOT(soft_cross_entropy)},
       kFloats,
       rows_and_widths(),
       soft_cross_entropy,
       {{"dlogits", {0, 1}}}},
  };
}

}  // namespace mullion::sweep
