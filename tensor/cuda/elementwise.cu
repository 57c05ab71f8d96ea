// Elementwise kernels from the functors of tensor/elementwise.h. Binary operands are walked by
// merged strides, a vector of elements of the inner axis at a time where strides and pointers
// allow.
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/map.cuh"
#include "tensor/cuda/strided.cuh"

namespace mullion::cuda {
namespace {

// Functors, because a lambda may not be a kernel's argument without an extension of nvcc.
template <typename Op>
struct Value {
  __device__ float operator()(float x) const { return Op::value(x); }
};
template <typename Op>
struct Gradient {
  __device__ float operator()(float x, float y, float g) const { return Op::backward(x, y, g); }
};
struct Affine {
  float alpha, beta;
  __device__ float operator()(float x) const { return alpha * x + beta; }
};
struct AddScaled {
  float alpha;
  __device__ float operator()(float x, float old) const { return old + alpha * x; }
};

// N elements of an operand from `offset` on along the inner axis, whose stride is 0, 1 or anything;
// with N > 1 it is 0 or 1.
template <int N, typename T>
__device__ __forceinline__ Floats<N> load_along(const T* x, int64_t stride) {
  if constexpr (N > 1) {
    if (stride == 0) {
      Floats<N> same;
#pragma unroll
      for (int j = 0; j < N; ++j) same.v[j] = widen(*x);
      return same;
    }
  }
  return load<N>(x);
}

template <typename Op, int N, typename T>
__global__ void __launch_bounds__(kMapThreads)
    binary_kernel(DeviceSpace<2> space, int64_t vectors, const T* a, const T* b, T* y) {
  const int inner = space.rank - 1;
  const int64_t step = int64_t{gridDim.x} * kMapThreads;
  for (int64_t i = int64_t{blockIdx.x} * kMapThreads + threadIdx.x; i < vectors; i += step) {
    int64_t at[2];
    offsets_of(space, i * N, at);
    const Floats<N> u = load_along<N>(a + at[0], space.stride[0][inner]);
    const Floats<N> v = load_along<N>(b + at[1], space.stride[1][inner]);
    Floats<N> result;
#pragma unroll
    for (int j = 0; j < N; ++j) result.v[j] = Op::value(u.v[j], v.v[j]);
    store<N>(y + i * N, result);
  }
}

// Whether operand k can be read N elements at a time along the inner axis.
template <typename T>
bool moves_vectors(const StridedSpace<2>& space, int k, const T* x) {
  constexpr int64_t N = 16 / sizeof(T);
  if (space.inner_stride(k) == 0) return true;
  if (space.inner_stride(k) != 1 || !aligned(x)) return false;
  for (int axis = 0; axis < space.rank - 1; ++axis)
    if (space.stride[static_cast<size_t>(k)][static_cast<size_t>(axis)] % N != 0) return false;
  return true;
}

template <typename Op, int N, typename T>
void launch_binary(const StridedSpace<2>& space, int64_t n, const T* a, const T* b, T* y) {
  constexpr int64_t kMostBlocks = int64_t{1} << 20;
  launch("binary", binary_kernel<Op, N, T>, Grid{blocks_for(n / N, kMapThreads, kMostBlocks)},
         kMapThreads, 0, on_device(space), n / N, a, b, y);
}

template <typename Op, typename T>
void binary_all(const BinaryArgs& args) {
  constexpr int N = 16 / sizeof(T);
  const auto* a = static_cast<const T*>(args.a);
  const auto* b = static_cast<const T*>(args.b);
  auto* y = static_cast<T*>(args.y);
  const auto space = merge_axes<2>(args.shape, {&args.a_strides, &args.b_strides});
  const int64_t n = args.shape.numel();
  const bool vectors = space.inner() % N == 0 && aligned(y) && moves_vectors(space, 0, a) &&
                       moves_vectors(space, 1, b);
  vectors ? launch_binary<Op, N>(space, n, a, b, y) : launch_binary<Op, 1>(space, n, a, b, y);
}

}  // namespace

template <typename Op>
void unary(const UnaryArgs& args) {
  dispatch_cuda("unary", args.dtype, [&](auto tag) {
    using T = decltype(tag);
    map("unary", args.n, Value<Op>{}, static_cast<T*>(args.y), static_cast<const T*>(args.x));
  });
}

template <typename Op>
void unary_backward(const UnaryBackwardArgs& args) {
  dispatch_cuda("unary_backward", args.dtype, [&](auto tag) {
    using T = decltype(tag);
    map("unary_backward", args.n, Gradient<Op>{}, static_cast<T*>(args.dx),
        static_cast<const T*>(args.x), static_cast<const T*>(args.y),
        static_cast<const T*>(args.g));
  });
}

template <typename Op>
void binary(const BinaryArgs& args) {
  if (args.shape.numel() == 0) return;
  dispatch_cuda("binary", args.dtype, [&](auto tag) { binary_all<Op, decltype(tag)>(args); });
}

void affine(const AffineArgs& args) {
  dispatch_cuda("affine", args.dtype, [&](auto tag) {
    using T = decltype(tag);
    map("affine", args.n, Affine{static_cast<float>(args.alpha), static_cast<float>(args.beta)},
        static_cast<T*>(args.y), static_cast<const T*>(args.x));
  });
}

void accumulate(const AccumulateArgs& args) {
  dispatch_cuda("accumulate", args.dtype, [&](auto tag) {
    using T = decltype(tag);
    auto* y = static_cast<T*>(args.y);
    map("accumulate", args.n, AddScaled{static_cast<float>(args.alpha)}, y,
        static_cast<const T*>(args.x), static_cast<const T*>(y));
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

}  // namespace mullion::cuda
