// Copies between strided spaces with conversion of the type, and fills. A copy that keeps the type
// moves bytes: in units as wide as sizes, strides and addresses allow, so that rows of a slice go
// 16 bytes at a time whatever their type; where another axis is the inner one, by tiles. f32 to
// bf16 and back are converted in vectors where both sides are contiguous; any other conversion
// takes one element a thread.
#include <algorithm>
#include <cstring>

#include "tensor/cuda/kernels.h"
#include "tensor/cuda/map.cuh"
#include "tensor/cuda/runtime/runtime.h"
#include "tensor/cuda/strided.cuh"
#include "tensor/cuda/transpose.cuh"
#include "tensor/half.h"

namespace mullion::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = int64_t{1} << 20;

// --- the same type: bytes -----------------------------------------------------------------------
template <typename Unit>
__global__ void __launch_bounds__(kThreads)
    copy_kernel(DeviceSpace<2> space, int64_t n, const Unit* source, Unit* target) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += step) {
    int64_t at[2];
    offsets_of(space, i, at);
    target[at[1]] = source[at[0]];
  }
}

// The widest unit in which a space of elements of `size` bytes can be moved, in bytes.
int64_t widest_unit(const StridedSpace<2>& space, int64_t size, const void* s, const void* t) {
  if (space.inner_stride(0) != 1 || space.inner_stride(1) != 1) return size;
  uint64_t all = static_cast<uint64_t>(space.inner() * size) | reinterpret_cast<uintptr_t>(s) |
                 reinterpret_cast<uintptr_t>(t);
  for (size_t k = 0; k < 2; ++k)
    for (int axis = 0; axis < space.rank - 1; ++axis)
      all |= static_cast<uint64_t>(space.stride[k][static_cast<size_t>(axis)] * size);
  int64_t unit = 16;
  while (unit > size && all % static_cast<uint64_t>(unit) != 0) unit /= 2;
  return unit;
}

// The same space in units of `ratio` elements.
StridedSpace<2> in_units(StridedSpace<2> space, int64_t ratio) {
  space.size[static_cast<size_t>(space.rank - 1)] /= ratio;
  for (size_t k = 0; k < 2; ++k)
    for (int axis = 0; axis < space.rank - 1; ++axis)
      space.stride[k][static_cast<size_t>(axis)] /= ratio;
  return space;
}

template <typename Unit>
void move_units(const StridedSpace<2>& space, int64_t n, const void* source, void* target) {
  if constexpr (sizeof(Unit) <= 8)
    if (const auto t = as_transpose(space))
      return launch("transpose", transpose_kernel<Unit>, Grid{std::min(t->blocks(), kMostBlocks)},
                    kTransposeSide * kTransposeRows, 0, *t, static_cast<const Unit*>(source),
                    static_cast<Unit*>(target));
  launch("copy", copy_kernel<Unit>, Grid{blocks_for(n, kThreads, kMostBlocks)}, kThreads, 0,
         on_device(space), n, static_cast<const Unit*>(source), static_cast<Unit*>(target));
}

void move(const CopyArgs& args, const StridedSpace<2>& space) {
  const int64_t size = size_of(args.source_type), n = args.shape.numel();
  if (space.rows() == 1 && space.inner_stride(0) == 1 && space.inner_stride(1) == 1)
    return copy_block(args.target, current_device(), args.source, current_device(), n * size);
  const int64_t unit = widest_unit(space, size, args.source, args.target);
  const StridedSpace<2> units = in_units(space, unit / size);
  const int64_t count = n / (unit / size);
  if (unit == 16) return move_units<uint4>(units, count, args.source, args.target);
  if (unit == 8) return move_units<uint64_t>(units, count, args.source, args.target);
  if (unit == 4) return move_units<uint32_t>(units, count, args.source, args.target);
  if (unit == 2) return move_units<uint16_t>(units, count, args.source, args.target);
  move_units<uint8_t>(units, count, args.source, args.target);
}

// --- another type -------------------------------------------------------------------------------
// Floats travel as double (exact for each of them), integers as int64.
struct Element {
  double real = 0;
  int64_t integer = 0;
  bool is_real = false;
};

__device__ Element load_element(const void* x, DType type, int64_t i) {
  switch (type) {
    case DType::f32:
      return {static_cast<const float*>(x)[i], 0, true};
    case DType::bf16:
      return {widen(static_cast<const Bf16*>(x)[i]), 0, true};
    case DType::f16:
      return {float_of_half(static_cast<const uint16_t*>(x)[i]), 0, true};
    case DType::f64:
      return {static_cast<const double*>(x)[i], 0, true};
    case DType::i32:
      return {0, static_cast<const int32_t*>(x)[i], false};
    case DType::i64:
      return {0, static_cast<const int64_t*>(x)[i], false};
    case DType::u8:
    case DType::boolean:
      return {0, static_cast<const uint8_t*>(x)[i], false};
  }
  return {};
}

// As on the CPU: a float beyond the range of an integer type becomes its nearest end, NaN 0.
__device__ int64_t as_integer(const Element& e, double low, double high, int64_t most) {
  if (!e.is_real) return e.integer;
  if (!(e.real == e.real)) return 0;
  if (e.real <= low) return static_cast<int64_t>(low);
  return e.real >= high ? most : static_cast<int64_t>(e.real);
}

__device__ void store_element(void* y, DType type, int64_t i, const Element& e) {
  const double real = e.is_real ? e.real : static_cast<double>(e.integer);
  // Straight from the integer: by way of double it could be rounded twice.
  const float single = e.is_real ? static_cast<float>(e.real) : static_cast<float>(e.integer);
  switch (type) {
    case DType::f32:
      static_cast<float*>(y)[i] = single;
      return;
    case DType::bf16:
      static_cast<Bf16*>(y)[i] = narrow<Bf16>(single);
      return;
    case DType::f16:
      static_cast<uint16_t*>(y)[i] = half_of_float(single);
      return;
    case DType::f64:
      static_cast<double*>(y)[i] = real;
      return;
    case DType::i32:
      static_cast<int32_t*>(y)[i] =
          static_cast<int32_t>(as_integer(e, -0x1p31, 0x1p31, 0x7fffffff));
      return;
    case DType::i64:
      static_cast<int64_t*>(y)[i] = as_integer(e, -0x1p63, 0x1p63, INT64_MAX);
      return;
    case DType::u8:
      static_cast<uint8_t*>(y)[i] = static_cast<uint8_t>(as_integer(e, 0, 256, 255));
      return;
    case DType::boolean:
      static_cast<uint8_t*>(y)[i] = e.is_real ? e.real != 0 : e.integer != 0;
      return;
  }
}

__global__ void __launch_bounds__(kThreads)
    convert_kernel(DeviceSpace<2> space, int64_t n, const void* source, DType source_type,
                   void* target, DType target_type) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += step) {
    int64_t at[2];
    offsets_of(space, i, at);
    store_element(target, target_type, at[1], load_element(source, source_type, at[0]));
  }
}

// f32 and bf16, contiguous: 8 elements a thread.
constexpr int kLanes = 8;
template <typename From, typename To>
__global__ void __launch_bounds__(kThreads) cast_kernel(int64_t n, const From* x, To* y) {
  const int64_t step = int64_t{gridDim.x} * kThreads * kLanes;
  for (int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kLanes; i < n; i += step) {
    if (i + kLanes <= n)
      store<kLanes>(y + i, load<kLanes>(x + i));
    else
      for (int64_t j = i; j < n; ++j) y[j] = narrow<To>(widen(x[j]));
  }
}
template <typename From, typename To>
void cast(int64_t n, const void* source, void* target) {
  launch("cast", cast_kernel<From, To>,
         Grid{blocks_for((n + kLanes - 1) / kLanes, kThreads, kMostBlocks)}, kThreads, 0, n,
         static_cast<const From*>(source), static_cast<To*>(target));
}

void convert(const CopyArgs& args, const StridedSpace<2>& space) {
  const int64_t n = args.shape.numel();
  const bool contiguous =
      space.rows() == 1 && space.inner_stride(0) == 1 && space.inner_stride(1) == 1 &&
      aligned(static_cast<const char*>(args.source), static_cast<const char*>(args.target));
  if (contiguous && args.source_type == DType::f32 && args.target_type == DType::bf16)
    return cast<float, Bf16>(n, args.source, args.target);
  if (contiguous && args.source_type == DType::bf16 && args.target_type == DType::f32)
    return cast<Bf16, float>(n, args.source, args.target);
  launch("convert", convert_kernel, Grid{blocks_for(n, kThreads, kMostBlocks)}, kThreads, 0,
         on_device(space), n, args.source, args.source_type, args.target, args.target_type);
}

// --- fill ---------------------------------------------------------------------------------------
template <typename Unit>
__global__ void __launch_bounds__(kThreads) fill_kernel(int64_t n, Unit value, Unit* y) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += step) y[i] = value;
}
template <typename Unit>
void fill_units(const FillArgs& args, const void* bits) {
  Unit value;
  std::memcpy(&value, bits, sizeof value);
  launch("fill", fill_kernel<Unit>, Grid{blocks_for(args.n, kThreads, kMostBlocks)}, kThreads, 0,
         args.n, value, static_cast<Unit*>(args.y));
}

}  // namespace

void copy(const CopyArgs& args) {
  if (args.shape.numel() == 0) return;
  const auto space = merge_axes<2>(args.shape, {&args.source_strides, &args.target_strides});
  args.source_type == args.target_type ? move(args, space) : convert(args, space);
}

// The CPU's fill knows each type's bits.
void fill(const FillArgs& args) {
  if (args.n == 0) return;
  alignas(8) unsigned char bits[8] = {};
  kernels({}).fill({.y = bits, .dtype = args.dtype, .n = 1, .value = args.value});
  const int64_t size = size_of(args.dtype);
  bool same = true;
  for (int64_t i = 1; i < size; ++i) same = same && bits[i] == bits[0];
  if (same) return set_bytes(args.y, bits[0], args.n * size, current_device());
  if (size == 8) return fill_units<uint64_t>(args, bits);
  if (size == 4) return fill_units<uint32_t>(args, bits);
  fill_units<uint16_t>(args, bits);
}

}  // namespace mullion::cuda
