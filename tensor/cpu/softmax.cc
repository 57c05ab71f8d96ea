// Softmax over rows: y = exp(x - max) / sum. Backward: dx = y (g - sum(g y)). A row stays in cache
// between the sweeps over it.
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/softmax_row.h"
namespace mullion::cpu {
namespace {

template <typename T>
void backward(const SoftmaxBackwardArgs& args) {
  using P = Pack<T>;
  const int64_t width = args.width;
  parallel_for(args.rows, rows_of_grain(width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* y = static_cast<const T*>(args.y) + r * width;
      const T* g = static_cast<const T*>(args.g) + r * width;
      const P dot = sum_over<T>(
          width, [](P a, P b) { return a * b; }, y, g);
      map_packs(
          0, width, static_cast<T*>(args.dx) + r * width, [=](P a, P b) { return a * (b - dot); },
          y, g);
    }
  });
}

}  // namespace

void softmax(const SoftmaxArgs& args) {
  if (args.width == 0) return;
  dispatch_float("softmax", args.dtype, [&](auto zero) {
    using T = decltype(zero);
    parallel_for(args.rows, rows_of_grain(args.width, kMathGrain), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        T* y = static_cast<T*>(args.y) + r * args.width;
        const RowSum<T> row =
            exp_row(static_cast<const T*>(args.x) + r * args.width, args.width, y);
        scale_row(y, args.width, T(1) / row.sum);
      }
    });
  });
}

void softmax_backward(const SoftmaxBackwardArgs& args) {
  dispatch_float("softmax_backward", args.dtype,
                 [&](auto zero) { backward<decltype(zero)>(args); });
}

}  // namespace mullion::cpu
