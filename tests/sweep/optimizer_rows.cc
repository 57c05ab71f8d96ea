// Sweeps of the optimizers, over lists of arrays of different lengths (kernel_args/optimizer.h).
#include <array>

#include "tensor/cpu/pack.h"
#include "tests/sweep/sweep.h"

namespace mullion::sweep {
namespace {

constexpr int64_t kLanes = cpu::Pack<float>::kLanes;

// The items of one call: `count` arrays of lengths that differ, with rates of their own.
struct Items {
  std::vector<Array*> parameter, grad, first, second;
  std::vector<OptimizerItem> list;

  Items(Case& c, bool has_first, bool has_second) {
    for (int64_t i = 0; i < c["count"]; ++i) {
      const int64_t n = i == 1 ? 1 : c["n"] + i;
      parameter.push_back(&c.in_out("parameter", n));
      grad.push_back(&c.in("grad", n));
      first.push_back(has_first ? &c.in_out("first", n) : nullptr);
      second.push_back(has_second ? &c.in_out("second", n, 0.01, 1) : nullptr);
      list.push_back({*parameter.back(), *grad.back(), nullptr, nullptr, n,
                      0.1 / static_cast<double>(i + 1), 0.02 * static_cast<double>(i)});
      if (has_first) list.back().first = *first.back();
      if (has_second) list.back().second = *second.back();
    }
  }
  // Calls f(item, element) for all of them.
  template <typename F>
  void for_elements(F f) const {
    for (size_t i = 0; i < list.size(); ++i)
      for (int64_t e = 0; e < list[i].n; ++e) f(i, e);
  }
};

constexpr double kMaxNorm = 0.5;

// The sum of squares that clipping finds, and what it makes of it. 3: it is not finite.
struct Clip {
  std::vector<double> squares;
  double factor = 1;
  bool is_skipped = false;
  explicit Clip(int64_t kind) {
    if (kind == 0) return;
    squares = {kind == 1 ? 4.0 : kind == 2 ? 0.01 : INFINITY};
    is_skipped = kind == 3;
    factor = std::min(1.0, kMaxNorm / (std::sqrt(squares[0]) + 1e-6));
  }
};

void adamw(Case& c) {
  const Items items(c, true, true);
  const Clip clip(c["clip"]);
  const int64_t step = c["step"];
  AdamWArgs args{.items = items.list.data(),
                 .count = c["count"],
                 .step = step,
                 .beta1 = 0.9,
                 .beta2 = 0.99,
                 .eps = 1e-6};
  if (c["clip"]) args.clipping = {c.doubles("squares", clip.squares), kMaxNorm};
  c.call(&KernelTable::adamw, args);
  c.tolerance_factor = 8;
  if (clip.is_skipped) return;  // nothing changes
  c.expect([&] {
    items.for_elements([&](size_t i, int64_t e) {
      const double g = (*items.grad[i])[e] * clip.factor, lr = items.list[i].lr;
      const double m = 0.9 * (*items.first[i])[e] + 0.1 * g;
      const double v = 0.99 * (*items.second[i])[e] + 0.01 * g * g;
      const double p = (*items.parameter[i])[e] * (1 - lr * items.list[i].weight_decay);
      const double n = static_cast<double>(step);
      items.first[i]->expect(e, m);
      items.second[i]->expect(e, v);
      items.parameter[i]->expect(e,
                                 p - lr / (1 - std::pow(0.9, n)) * m /
                                         (std::sqrt(v) / std::sqrt(1 - std::pow(0.99, n)) + 1e-6));
    });
  });
}

void sgd(Case& c) {
  const bool has_momentum = c["momentum"];
  const Items items(c, has_momentum, false);
  const Clip clip(c["clip"]);
  SgdArgs args{.items = items.list.data(),
               .count = c["count"],
               .step = c["step"],
               .momentum = has_momentum ? 0.9 : 0,
               .nesterov = c["nesterov"] != 0};
  if (c["clip"]) args.clipping = {c.doubles("squares", clip.squares), kMaxNorm};
  c.call(&KernelTable::sgd, args);
  c.tolerance_factor = 4;
  if (clip.is_skipped) return;
  c.expect([&] {
    items.for_elements([&](size_t i, int64_t e) {
      const double p = (*items.parameter[i])[e];
      double g = (*items.grad[i])[e] * clip.factor + items.list[i].weight_decay * p;
      if (has_momentum) {
        const double buffer = c["step"] > 1 ? 0.9 * (*items.first[i])[e] + g : g;
        items.first[i]->expect(e, buffer);
        g = c["nesterov"] ? g + 0.9 * buffer : buffer;
      }
      items.parameter[i]->expect(e, p - items.list[i].lr * g);
    });
  });
}

void ema(Case& c) {
  const Items items(c, false, false);
  const Clip clip(c["clip"]);
  EmaArgs args{.items = items.list.data(), .count = c["count"], .decay = 0.75};
  if (c["clip"]) args.sum_squares = c.doubles("squares", clip.squares);
  c.call(&KernelTable::ema, args);
  if (clip.is_skipped) return;
  c.expect([&] {
    items.for_elements([&](size_t i, int64_t e) {
      items.parameter[i]->expect(e, 0.75 * (*items.parameter[i])[e] + 0.25 * (*items.grad[i])[e]);
    });
  });
}

void sum_squares(Case& c) {
  const int64_t count = c["count"], watched = std::min(c["watched"], count);
  std::vector<Array*> grads;
  std::vector<OptimizerItem> list;
  for (int64_t i = 0; i < count; ++i) {
    grads.push_back(&c.in("grad", i == 1 ? 1 : c["n"] + i));
    list.push_back({nullptr, *grads.back(), nullptr, nullptr, grads.back()->size(), 0, 0});
  }
  Array& result = c.out("result", DType::f64, 1);
  c.call(&KernelTable::sum_squares,
         SumSquaresArgs{
             .items = list.data(), .count = count - watched, .result = result, .watched = watched});
  c.expect([&] {
    double sum = 0;
    for (int64_t i = 0; i < count - watched; ++i)
      for (int64_t e = 0; e < grads[static_cast<size_t>(i)]->size(); ++e)
        sum += (*grads[static_cast<size_t>(i)])[e] * (*grads[static_cast<size_t>(i)])[e];
    result.expect(0, sum, sum * 100);
  });
}

}  // namespace

std::vector<Row> optimizer_rows() {
  const std::vector<Axis> lists{{"n", small_and_around({kLanes, 2 * kLanes})},
                                {"count", {1, 2, 3, 5}}};
  const Axis clip{"clip", {0, 1, 2, 3}}, step{"step", {1, 2, 7}};
  std::vector<Row> rows{
      {"adamw", {MULLION_SLOT(adamw)}, {DType::f32}, lists, adamw, {clip, step}, 0},
      {"sgd",
       {MULLION_SLOT(sgd)},
       {DType::f32},
       lists,
       sgd,
       {clip, step, {"momentum", {0, 1}}, {"nesterov", {0, 1}}},
       0},
      {"ema", {MULLION_SLOT(ema)}, {DType::f32}, lists, ema, {clip}, 0},
      {"sum_squares",
       {MULLION_SLOT(sum_squares)},
       {DType::f32},
       lists,
       sum_squares,
       {{"watched", {0, 1}}},
       0}};
  for (const int64_t n : {8191, 8192, 8193}) rows[3].more_sizes.push_back({n, 3});  // a piece
  return rows;
}

}  // namespace mullion::sweep
