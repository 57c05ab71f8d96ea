// Elementwise kernels: the functors of tensor/elementwise.h over registers of floats, split over
// threads by ranges. Binary operands are walked by merged strides; the rows that occur (both
// contiguous, a vector or a scalar broadcast) are vectorised.
#include "tensor/cpu/dispatch.h"
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/vector_math.h"
#include "tensor/parallel.h"
#include "tensor/strided.h"

namespace mullion::cpu {
namespace {

// Whether an op is worth a thread sooner than a pass over memory is.
template <typename Op>
constexpr int64_t grain_of() {
  constexpr bool cheap = std::is_same_v<Op, Neg> || std::is_same_v<Op, Square> ||
                         std::is_same_v<Op, Relu> || std::is_same_v<Op, Sqrt>;
  return cheap ? kGrain : kMathGrain;
}

// y[i] = f(x[i]...) over all threads.
template <typename T, typename F, typename... X>
void parallel_map(int64_t n, int64_t grain, T* y, F f, const X*... x) {
  parallel_for(n, grain, [&](int64_t begin, int64_t end) { map_packs(begin, end, y, f, x...); });
}

// One row of a binary op; a stride is 0 (broadcast), 1 or anything.
template <typename Op, typename T>
void binary_row(const T* a, int64_t sa, const T* b, int64_t sb, T* y, int64_t n) {
  using P = Pack<T>;
  if (sa == 1 && sb == 1)
    return map_packs(
        0, n, y, [](P u, P v) { return Op::value(u, v); }, a, b);
  if (sa == 1 && sb == 0)
    return map_packs(
        0, n, y, [v = P(*b)](P u) { return Op::value(u, v); }, a);
  if (sa == 0 && sb == 1)
    return map_packs(
        0, n, y, [u = P(*a)](P v) { return Op::value(u, v); }, b);
  for (int64_t i = 0; i < n; ++i) y[i] = Op::value(a[i * sa], b[i * sb]);
}

template <typename Op, typename T>
void binary_all(const BinaryArgs& args) {
  const auto* a = static_cast<const T*>(args.a);
  const auto* b = static_cast<const T*>(args.b);
  auto* y = static_cast<T*>(args.y);
  const auto space = merge_axes<2>(args.shape, {&args.a_strides, &args.b_strides});
  const int64_t inner = space.inner(), rows = space.rows();
  const int64_t sa = space.inner_stride(0), sb = space.inner_stride(1);
  if (rows == 1)
    return parallel_for(inner, kGrain, [&](int64_t begin, int64_t end) {
      binary_row<Op>(a + begin * sa, sa, b + begin * sb, sb, y + begin, end - begin);
    });
  parallel_for(rows, rows_of_grain(inner), [&](int64_t begin, int64_t end) {
    for_rows(space, begin, end, [&](int64_t row, const std::array<int64_t, 2>& offset) {
      binary_row<Op>(a + offset[0], sa, b + offset[1], sb, y + row * inner, inner);
    });
  });
}

}  // namespace

template <typename Op>
void unary(const UnaryArgs& args) {
  dispatch_float("unary", args.dtype, [&](auto zero) {
    using T = decltype(zero);
    parallel_map(
        args.n, grain_of<Op>(), static_cast<T*>(args.y), [](Pack<T> x) { return Op::value(x); },
        static_cast<const T*>(args.x));
  });
}

template <typename Op>
void unary_backward(const UnaryBackwardArgs& args) {
  dispatch_float("unary_backward", args.dtype, [&](auto zero) {
    using T = decltype(zero);
    parallel_map(
        args.n, grain_of<Op>(), static_cast<T*>(args.dx),
        [](Pack<T> x, Pack<T> y, Pack<T> g) { return Op::backward(x, y, g); },
        static_cast<const T*>(args.x), static_cast<const T*>(args.y),
        static_cast<const T*>(args.g));
  });
}

template <typename Op>
void binary(const BinaryArgs& args) {
  if (args.shape.numel() == 0) return;
  dispatch_float("binary", args.dtype, [&](auto zero) { binary_all<Op, decltype(zero)>(args); });
}

void affine(const AffineArgs& args) {
  dispatch_float("affine", args.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Pack<T> alpha = static_cast<T>(args.alpha), beta = static_cast<T>(args.beta);
    parallel_map(
        args.n, kGrain, static_cast<T*>(args.y), [=](Pack<T> x) { return alpha * x + beta; },
        static_cast<const T*>(args.x));
  });
}

void accumulate(const AccumulateArgs& args) {
  dispatch_float("accumulate", args.dtype, [&](auto zero) {
    using T = decltype(zero);
    auto* y = static_cast<T*>(args.y);
    const Pack<T> alpha = static_cast<T>(args.alpha);
    parallel_map(
        args.n, kGrain, y, [=](Pack<T> x, Pack<T> old) { return old + alpha * x; },
        static_cast<const T*>(args.x), static_cast<const T*>(y));
  });
}

void swiglu(const SwigluArgs& args) {
  dispatch_float("swiglu", args.dtype, [&](auto zero) {
    using T = decltype(zero);
    parallel_map(
        args.n, kMathGrain, static_cast<T*>(args.y),
        [](Pack<T> gate, Pack<T> up) { return Silu::value(gate) * up; },
        static_cast<const T*>(args.gate), static_cast<const T*>(args.up));
  });
}

// dgate = g up silu'(gate), dup = g silu(gate): both in one pass where both are asked for.
void swiglu_backward(const SwigluBackwardArgs& args) {
  dispatch_float("swiglu_backward", args.dtype, [&](auto zero) {
    using T = decltype(zero);
    using P = Pack<T>;
    const auto* gate = static_cast<const T*>(args.gate);
    const auto* up = static_cast<const T*>(args.up);
    const auto* g = static_cast<const T*>(args.g);
    auto* dgate = static_cast<T*>(args.dgate);
    auto* dup = static_cast<T*>(args.dup);
    const auto at = [=](const P& x, const P& u, const P& dy, auto write) {
      const P s = 1.0f / (1.0f + exp(-x)), dys = dy * s;
      if (dup) write(dys * x, dup);
      if (dgate) write(dys * u * (1.0f + x * (1.0f - s)), dgate);
    };
    parallel_for(args.n, kMathGrain, [&](int64_t begin, int64_t end) {
      for_packs<T>(
          begin, end,
          [&](int64_t i) {
            at(P::load(gate + i), P::load(up + i), P::load(g + i),
               [&](const P& value, T* y) { value.store(y + i); });
          },
          [&](int64_t i, int64_t count) {
            at(P::load(gate + i, count), P::load(up + i, count), P::load(g + i, count),
               [&](const P& value, T* y) { value.store(y + i, count); });
          });
    });
  });
}

// The functions of every op, for the table.
#define MULLION_INSTANTIATE(name, Op)        \
  template void unary<Op>(const UnaryArgs&); \
  template void unary_backward<Op>(const UnaryBackwardArgs&);
MULLION_UNARY_OPS(MULLION_INSTANTIATE)
#undef MULLION_INSTANTIATE
#define MULLION_INSTANTIATE(name, Op) template void binary<Op>(const BinaryArgs&);
MULLION_BINARY_OPS(MULLION_INSTANTIATE)
#undef MULLION_INSTANTIATE

}  // namespace mullion::cpu
