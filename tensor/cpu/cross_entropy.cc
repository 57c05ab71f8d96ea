// Cross-entropy of rows of logits against a class or a distribution, with the gradient
// softmax - target written in the same visit. A row of a vocabulary (about 200 kB) stays in the
// second-level cache between its sweeps, so memory is read once and written once.
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/softmax_row.h"
namespace mullion::cpu {
namespace {

template <typename T>
void against_class(const CrossEntropyArgs& args) {
  const int64_t width = args.width;
  parallel_for(args.rows, rows_of_grain(width, kMathGrain), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      T* x = static_cast<T*>(args.logits) + r * width;
      T& loss = static_cast<T*>(args.loss)[r];
      const int64_t target = args.targets[r];
      if (target < 0) {
        loss = 0;
        if (args.write_grad) std::fill(x, x + width, T(0));
        continue;
      }
      const T at_target = x[target];
      const RowSum<T> row = exp_row<T>(x, width, args.write_grad ? x : nullptr);
      loss = row.logsumexp() - at_target;
      if (!args.write_grad) continue;
      scale_row(x, width, T(1) / row.sum);
      x[target] -= T(1);
    }
  });
}

// sum(p) logsumexp(x) - sum(p x) = sum(p (logsumexp(x) - x)), which does not cancel.
template <typename T>
void against_distribution(const SoftCrossEntropyArgs& args) {
  using P = Pack<T>;
  const int64_t width = args.width;
  parallel_for(args.rows, rows_of_grain(width, kMathGrain), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* x = static_cast<const T*>(args.logits) + r * width;
      const T* p = static_cast<const T*>(args.probabilities) + r * width;
      T* dx = args.dlogits ? static_cast<T*>(args.dlogits) + r * width : nullptr;
      const RowSum<T> row = exp_row(x, width, dx);
      const P total = row.logsumexp();
      static_cast<T*>(args.loss)[r] = sum_over<T>(
          width, [=](P a, P v) { return a * (total - v); }, p, x);
      if (!dx) continue;
      const P factor = sum_over<T>(
                           width, [](P a) { return a; }, p) /
                       row.sum;
      map_packs(
          0, width, dx, [=](P e, P a) { return e * factor - a; }, static_cast<const T*>(dx), p);
    }
  });
}

}  // namespace

void cross_entropy(const CrossEntropyArgs& args) {
  dispatch_float("cross_entropy", args.dtype,
                 [&](auto zero) { against_class<decltype(zero)>(args); });
}

void soft_cross_entropy(const SoftCrossEntropyArgs& args) {
  dispatch_float("soft_cross_entropy", args.dtype,
                 [&](auto zero) { against_distribution<decltype(zero)>(args); });
}

}  // namespace mullion::cpu
