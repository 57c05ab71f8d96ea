// Updates of whole lists of parameters: the elements of all of them count as one long array, split
// evenly over the threads. Each pass reads and writes every array once.
#include <algorithm>
#include <cmath>
#include <vector>

#include "tensor/cpu/dispatch.h"
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/vector_math.h"
#include "tensor/parallel.h"

namespace mullion::cpu {
namespace {

// Calls f(item, begin, end) for the pieces of items that make up every thread's share.
template <typename F>
void for_items(const OptimizerItem* items, int64_t count, F f) {
  int64_t total = 0;
  for (int64_t i = 0; i < count; ++i) total += items[i].n;
  parallel_for(total, kGrain, [&](int64_t begin, int64_t end) {
    int64_t first = 0;  // number of the item's first element
    for (int64_t i = 0; i < count && first < end; first += items[i++].n) {
      const int64_t from = std::max<int64_t>(0, begin - first);
      const int64_t to = std::min(items[i].n, end - first);
      if (from < to) f(items[i], from, to);
    }
  });
}

// f(i, load, store) for packs of [begin, end), where load(p) and store(pack, p) know the tail.
template <typename F>
void for_floats(int64_t begin, int64_t end, F f) {
  for_packs<float>(
      begin, end,
      [&](int64_t i) {
        f([i](const float* p) { return Floats::load(p + i); },
          [i](const Floats& x, float* p) { x.store(p + i); });
      },
      [&](int64_t i, int64_t count) {
        f([=](const float* p) { return Floats::load(p + i, count); },
          [=](const Floats& x, float* p) { x.store(p + i, count); });
      });
}

// Whether the update is made at all, and with which factor.
bool applies(const double* sum_squares) { return !sum_squares || std::isfinite(*sum_squares); }
float factor_of(const Clipping& c) {
  return c.sum_squares ? static_cast<float>(clip_factor(*c.sum_squares, c.max_norm)) : 1.0f;
}

}  // namespace

void adamw(const AdamWArgs& args) {
  if (!applies(args.clipping.sum_squares)) return;
  const double step = static_cast<double>(args.step);
  const double correction1 = 1 - std::pow(args.beta1, step);
  const double correction2 = std::sqrt(1 - std::pow(args.beta2, step));
  const Floats keep1 = static_cast<float>(args.beta1), keep2 = static_cast<float>(args.beta2);
  const Floats take1 = static_cast<float>(1 - args.beta1);
  const Floats take2 = static_cast<float>(1 - args.beta2);
  const Floats scale = factor_of(args.clipping), eps = static_cast<float>(args.eps);
  const Floats root_scale = static_cast<float>(1 / correction2);
  for_items(args.items, args.count, [&](const OptimizerItem& item, int64_t begin, int64_t end) {
    const Floats decay = static_cast<float>(1 - item.lr * item.weight_decay);
    const Floats rate = static_cast<float>(item.lr / correction1);
    for_floats(begin, end, [&](auto load, auto store) {
      const Floats g = load(item.grad) * scale;
      const Floats m = load(item.first) * keep1 + g * take1;
      const Floats v = load(item.second) * keep2 + g * g * take2;
      store(m, item.first);
      store(v, item.second);
      store(load(item.parameter) * decay - rate * m / (sqrt(v) * root_scale + eps), item.parameter);
    });
  });
}

void sgd(const SgdArgs& args) {
  if (!applies(args.clipping.sum_squares)) return;
  const Floats scale = factor_of(args.clipping);
  const Floats momentum = static_cast<float>(args.momentum);
  for_items(args.items, args.count, [&](const OptimizerItem& item, int64_t begin, int64_t end) {
    const Floats decay = static_cast<float>(item.weight_decay), rate = static_cast<float>(item.lr);
    for_floats(begin, end, [&](auto load, auto store) {
      const Floats p = load(item.parameter);
      Floats g = load(item.grad) * scale + decay * p;
      if (args.momentum != 0) {
        const Floats buffer = args.step > 1 ? momentum * load(item.first) + g : g;
        store(buffer, item.first);
        g = args.nesterov ? g + momentum * buffer : buffer;
      }
      store(p - rate * g, item.parameter);
    });
  });
}

void ema(const EmaArgs& args) {
  if (!applies(args.sum_squares)) return;
  const Floats keep = static_cast<float>(args.decay), take = static_cast<float>(1 - args.decay);
  for_items(args.items, args.count, [&](const OptimizerItem& item, int64_t begin, int64_t end) {
    for_floats(begin, end, [&](auto load, auto store) {
      store(keep * load(item.parameter) + take * load(item.grad), item.parameter);
    });
  });
}

// Pieces of a fixed size are summed in double by any thread, and their sums added in order.
void sum_squares(const SumSquaresArgs& args) {
  constexpr int64_t piece = 8192;
  struct Piece {
    const float* x;
    int64_t n;
  };
  std::vector<Piece> pieces;
  for (int64_t i = 0; i < args.count; ++i)
    for (int64_t first = 0; first < args.items[i].n; first += piece)
      pieces.push_back({args.items[i].grad + first, std::min(piece, args.items[i].n - first)});
  std::vector<double> sums(pieces.size());
  parallel_for(static_cast<int64_t>(pieces.size()), kGrain / piece,
               [&](int64_t begin, int64_t end) {
                 for (int64_t p = begin; p < end; ++p) {
                   const float* x = pieces[static_cast<size_t>(p)].x;
                   const int64_t n = pieces[static_cast<size_t>(p)].n;
                   double sum = 0;
#pragma omp simd reduction(+ : sum)
                   for (int64_t i = 0; i < n; ++i)
                     sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
                   sums[static_cast<size_t>(p)] = sum;
                 }
               });
  double total = 0;
  for (const double sum : sums) total += sum;
  for (int64_t i = args.count; i < args.count + args.watched; ++i)
    for (int64_t e = 0; e < args.items[i].n; ++e)
      total += 0.0 * static_cast<double>(args.items[i].grad[e]);
  *args.result = total;
}

}  // namespace mullion::cpu
