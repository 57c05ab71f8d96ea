// How rows of elements lie on threads. A row belongs to a group: a warp where it is short, else a
// block. A thread moves N elements at a time, 16 bytes where pointers and width allow and one
// element otherwise, and holds up to 16 elements in registers between the sweeps over its row, so
// that memory is read once; a row that is too wide for that is read again, from the caches.
#pragma once
#include <initializer_list>
#include <type_traits>

#include "tensor/cuda/dispatch.h"
#include "tensor/cuda/runtime/launch.h"

namespace mullion::cuda {

template <int N>
struct Floats {
  float v[N];
};

// The eight bf16 of 16 bytes.
__device__ __forceinline__ Floats<8> widened(const uint4& q) {
  return {low_bf16(q.x), high_bf16(q.x), low_bf16(q.y), high_bf16(q.y),
          low_bf16(q.z), high_bf16(q.z), low_bf16(q.w), high_bf16(q.w)};
}

// N elements as floats: loads of 16 bytes where they are that many, then p is aligned to 16.
template <int N, typename T>
__device__ __forceinline__ Floats<N> load(const T* p) {
  if constexpr (N == 1) {
    return {widen(*p)};
  } else if constexpr (sizeof(T) == 4) {
    static_assert(N % 4 == 0);
    Floats<N> x;
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      const float4 q = load_vector<float4>(p + i);
      x.v[i] = q.x, x.v[i + 1] = q.y, x.v[i + 2] = q.z, x.v[i + 3] = q.w;
    }
    return x;
  } else {
    static_assert(N == 8);
    return widened(load_vector<uint4>(p));
  }
}

template <int N, typename T>
__device__ __forceinline__ void store(T* p, const Floats<N>& x) {
  if constexpr (N == 1) {
    *p = narrow<T>(x.v[0]);
  } else if constexpr (sizeof(T) == 4) {
#pragma unroll
    for (int i = 0; i < N; i += 4)
      store_vector(p + i, make_float4(x.v[i], x.v[i + 1], x.v[i + 2], x.v[i + 3]));
  } else {
    store_vector(p, make_uint4(pack_bf16(x.v[0], x.v[1]), pack_bf16(x.v[2], x.v[3]),
                               pack_bf16(x.v[4], x.v[5]), pack_bf16(x.v[6], x.v[7])));
  }
}

// G threads a row, N elements at a time, K such vectors held in registers (0: read again).
template <int N_, int G_, int K_>
struct RowShape {
  static constexpr int N = N_, G = G_, K = K_;
  static constexpr int kHeld = K > 0 ? K : 1;
  static constexpr int kThreads = G < 128 ? 128 : G;
  static constexpr int kRowsPerBlock = kThreads / G;

  static Grid grid(int64_t rows) { return {(rows + kRowsPerBlock - 1) / kRowsPerBlock}; }
  static __device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x) % G; }
  // This thread's group among all of the grid.
  static __device__ __forceinline__ int64_t group() {
    return int64_t{blockIdx.x} * kRowsPerBlock + static_cast<int>(threadIdx.x) / G;
  }
  static __device__ __forceinline__ int64_t groups() { return int64_t{gridDim.x} * kRowsPerBlock; }

  // f(slot, first element) for every vector of this thread; the slot is its place among the held.
  template <typename F>
  static __device__ __forceinline__ void each(int width, F f) {
    if constexpr (K > 0) {
#pragma unroll
      for (int k = 0; k < K; ++k) {
        const int at = (k * G + lane()) * N;
        if (at < width) f(k, at);
      }
    } else {
#pragma unroll 2
      for (int64_t at = int64_t{lane()} * N; at < width; at += int64_t{G} * N)
        f(0, static_cast<int>(at));
    }
  }
};

// A thread's part of a row of x. Read in the first sweep; later ones find it in registers, or, with
// K = 0, read it again. Vectors of bf16 stay as they are, two in a register, and are widened when
// they are asked for.
template <typename Shape, typename T>
class HeldRow {
 public:
  static constexpr bool kPacked = sizeof(T) == 2 && Shape::N == 8;

  __device__ __forceinline__ explicit HeldRow(const T* x) : x_(x) {}
  __device__ __forceinline__ Floats<Shape::N> read(int k, int at) {
    if constexpr (kPacked)
      held_[k] = load_vector<uint4>(x_ + at);
    else
      held_[k] = load<Shape::N>(x_ + at);
    return value(k);
  }
  __device__ __forceinline__ Floats<Shape::N> operator()(int k, int at) {
    if constexpr (Shape::K == 0) return read(k, at);
    return value(k);
  }

 private:
  __device__ __forceinline__ Floats<Shape::N> value(int k) const {
    if constexpr (kPacked)
      return widened(held_[k]);
    else
      return held_[k];
  }

  const T* x_;
  std::conditional_t<kPacked, uint4, Floats<Shape::N>> held_[Shape::kHeld];
};

constexpr int kHeldElements = 16;  // a thread
constexpr int kWidestHeldRow = 512 * kHeldElements;

// Calls f(RowShape{}) for the shape that suits rows of `width` elements.
template <int N, typename F>
void dispatch_shape(int64_t width, F f) {
  constexpr int K = kHeldElements / N;
  if (width <= 32 * kHeldElements) return f(RowShape<N, 32, K>{});
  if (width <= 128 * kHeldElements) return f(RowShape<N, 128, K>{});
  if (width <= 256 * kHeldElements) return f(RowShape<N, 256, K>{});
  if (width <= kWidestHeldRow) return f(RowShape<N, 512, K>{});
  f(RowShape<N, 512, 0>{});
}

// All of them multiples of 16; null counts as one.
template <typename... P>
bool aligned(const P*... p) {
  return ((reinterpret_cast<uintptr_t>(p) % 16 == 0) && ...);
}

// dispatch_shape with vectors of 16 bytes of T where `vectors` and the width allow.
template <typename T, typename F>
void dispatch_row(const char* kernel, int64_t width, bool vectors, F f) {
  CHECK_AS(Fault::usage, width <= 0x7fffffff, kernel, ": rows of ", width,
           " elements are too wide for cuda (2147483647)");
  constexpr int N = 16 / sizeof(T);
  if (vectors && width % N == 0) return dispatch_shape<N>(width, f);
  dispatch_shape<1>(width, f);
}

// Calls f with N = 16 / sizeof(T) of a pixel's channels at a time where `vectors` says that
// pointers allow and the channels and all strides are multiples of it; else with N = 1.
template <typename T, typename F>
void dispatch_channels(int64_t channels, bool vectors, const F& f,
                       std::initializer_list<int64_t> strides = {}) {
  constexpr int N = 16 / sizeof(T);
  bool whole = vectors && channels % N == 0;
  for (const int64_t stride : strides) whole = whole && stride % N == 0;
  whole ? f(std::integral_constant<int, N>()) : f(std::integral_constant<int, 1>());
}

}  // namespace mullion::cuda
