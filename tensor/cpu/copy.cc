// Copies between strided spaces with conversion of the type, and fills. Merged axes turn most
// copies into one memcpy or into contiguous rows; a transposition goes in square blocks, so that
// the cache lines of both sides are used whole.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tensor/cpu/dispatch.h"
#include "tensor/cpu/kernels.h"
#include "tensor/parallel.h"
#include "tensor/strided.h"

namespace mullion::cpu {
namespace {

constexpr int64_t kBlock = 32;  // side of a transposition's blocks

// A float beyond the range of an integer type becomes its nearest end, NaN becomes 0.
template <typename Int, typename Float>
Int saturate(Float x) {
  constexpr auto low = std::numeric_limits<Int>::min(), high = std::numeric_limits<Int>::max();
  if (std::isnan(x)) return 0;
  if (x <= static_cast<Float>(low)) return low;
  return x >= static_cast<Float>(high) ? high : static_cast<Int>(x);
}

template <typename To, typename From>
To convert(From x) {
  constexpr bool from_half = std::is_same_v<From, bf16> || std::is_same_v<From, f16>;
  constexpr bool to_half = std::is_same_v<To, bf16> || std::is_same_v<To, f16>;
  if constexpr (std::is_same_v<To, From>)
    return x;
  else if constexpr (from_half)
    return convert<To>(static_cast<float>(x));
  else if constexpr (to_half)
    return To(static_cast<float>(x));
  else if constexpr (std::is_same_v<To, bool>)
    return x != From(0);
  else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>)
    return saturate<To>(x);
  else
    return static_cast<To>(x);
}

template <typename From, typename To>
void convert_row(const From* source, int64_t ss, To* target, int64_t st, int64_t n) {
  if (ss == 1 && st == 1) {
    if constexpr (std::is_same_v<From, To>)
      std::memcpy(target, source, static_cast<size_t>(n) * sizeof(To));
    else
      for (int64_t i = 0; i < n; ++i) target[i] = convert<To>(source[i]);
    return;
  }
  for (int64_t i = 0; i < n; ++i) target[i * st] = convert<To>(source[i * ss]);
}

// The axis beside the inner one along which the source is contiguous, or -1.
int transposed_axis(const StridedSpace<2>& space) {
  if (space.inner_stride(1) != 1 || space.inner_stride(0) == 1 || space.inner_stride(0) == 0)
    return -1;
  for (int axis = 0; axis < space.rank - 1; ++axis)
    if (space.stride[0][space.at(axis)] == 1) return axis;
  return -1;
}

// The planes (axis, inner) of the space, in blocks.
template <typename From, typename To>
void copy_transposed(const From* source, To* target, const StridedSpace<2>& space, int axis) {
  StridedSpace<2> planes = space;  // the other axes, the plane's two replaced by size 1
  planes.size[space.at(axis)] = 1;
  const int64_t rows = space.size[space.at(axis)], columns = space.inner();
  const int64_t step = space.inner_stride(0), row_step = space.stride[1][space.at(axis)];
  const int64_t strips = (rows + kBlock - 1) / kBlock;
  const auto block = [&](const From* s, To* t, int64_t r0, int64_t c0) {
    const int64_t r1 = std::min(rows, r0 + kBlock), c1 = std::min(columns, c0 + kBlock);
    for (int64_t r = r0; r < r1; ++r)
      for (int64_t c = c0; c < c1; ++c) t[r * row_step + c] = convert<To>(s[r + c * step]);
  };
  parallel_for(
      planes.rows() * strips, rows_of_grain(kBlock * columns), [&](int64_t begin, int64_t end) {
        for (int64_t item = begin; item < end; ++item)
          for_rows(planes, item / strips, item / strips + 1,
                   [&](int64_t, const std::array<int64_t, 2>& offset) {
                     for (int64_t c = 0; c < columns; c += kBlock)
                       block(source + offset[0], target + offset[1], item % strips * kBlock, c);
                   });
      });
}

template <typename From, typename To>
void copy_all(const CopyArgs& args) {
  const auto* source = static_cast<const From*>(args.source);
  auto* target = static_cast<To*>(args.target);
  const auto space = merge_axes<2>(args.shape, {&args.source_strides, &args.target_strides});
  const int64_t inner = space.inner(), rows = space.rows();
  const int64_t ss = space.inner_stride(0), st = space.inner_stride(1);
  if (rows == 1)
    return parallel_for(inner, kGrain, [&](int64_t begin, int64_t end) {
      convert_row(source + begin * ss, ss, target + begin * st, st, end - begin);
    });
  if (const int axis = transposed_axis(space); axis >= 0)
    return copy_transposed(source, target, space, axis);
  parallel_for(rows, rows_of_grain(inner), [&](int64_t begin, int64_t end) {
    for_rows(space, begin, end, [&](int64_t, const std::array<int64_t, 2>& offset) {
      convert_row(source + offset[0], ss, target + offset[1], st, inner);
    });
  });
}

}  // namespace

void copy(const CopyArgs& args) {
  if (args.shape.numel() == 0) return;
  dispatch_any(args.source_type, [&](auto from) {
    dispatch_any(args.target_type, [&](auto to) { copy_all<decltype(from), decltype(to)>(args); });
  });
}

void fill(const FillArgs& args) {
  dispatch_any(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    auto* y = static_cast<T*>(args.y);
    const T value = convert<T>(args.value);
    parallel_for(args.n, kGrain,
                 [&](int64_t begin, int64_t end) { std::fill(y + begin, y + end, value); });
  });
}

}  // namespace mullion::cpu
