// Random numbers by counter, the same as on the CPU: element i is a function of (seed, stream, i)
// alone. Uniform and Bernoulli numbers are computed in the same operations of f32 and double, bit
// for bit; normal ones by the device's logarithm and cosine in double, which may differ in the last
// bit and are then rounded to f32.
#include <cmath>

#include "tensor/cuda/dispatch.h"
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/runtime/launch.h"
#include "tensor/random.h"

namespace mullion::cuda {
namespace {

constexpr int kThreads = 256;
using Kind = RandomArgs::Kind;

struct Draw {
  int64_t n;
  double a, b;
  float most;  // the largest value of a uniform number: rounding may reach b, which is outside
  uint64_t seed, stream;
  const int64_t* stream_at;  // or null
};

__device__ float number(Kind kind, const Draw& d, uint32_t word) {
  if (kind == Kind::bernoulli)
    return uniform_from_bits(word) < static_cast<float>(d.a) ? static_cast<float>(d.b) : 0.0f;
  const double width = d.b - d.a;
  // Two roundings, as on the CPU, and not the one of a fused multiply and add.
  const float value =
      static_cast<float>(__dadd_rn(d.a, __dmul_rn(width, double{uniform_from_bits(word)})));
  return width > 0 && value > d.most ? d.most : value;
}

// A block of Philox serves four numbers, a normal number takes one of its own.
template <typename T>
__global__ void __launch_bounds__(kThreads) random_kernel(Kind kind, Draw d, T* y) {
  const uint64_t stream = d.stream_at ? static_cast<uint64_t>(*d.stream_at) : d.stream;
  const int64_t step = int64_t{gridDim.x} * kThreads;
  int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (kind == Kind::normal) {
    for (; i < d.n; i += step) {
      const double z = normal_from_block(philox(d.seed, stream, static_cast<uint64_t>(i)));
      y[i] = narrow<T>(static_cast<float>(__dadd_rn(d.a, __dmul_rn(d.b, z))));
    }
    return;
  }
  for (; i * 4 < d.n; i += step) {
    const PhiloxBlock block = philox(d.seed, stream, static_cast<uint64_t>(i));
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (i * 4 + j < d.n) y[i * 4 + j] = narrow<T>(number(kind, d, block.v[j]));
  }
}

}  // namespace

void random(const RandomArgs& args) {
  if (args.n == 0) return;
  const float most = std::nextafter(static_cast<float>(args.b), static_cast<float>(args.a));
  const Draw draw{args.n, args.a, args.b, most, args.seed, args.stream, args.stream_at};
  const int64_t items = args.kind == Kind::normal ? args.n : (args.n + 3) / 4;
  dispatch_cuda("random", args.dtype, [&](auto tag) {
    using T = decltype(tag);
    launch("random", random_kernel<T>, Grid{blocks_for(items, kThreads, 1 << 20)}, kThreads, 0,
           args.kind, draw, static_cast<T*>(args.y));
  });
}

}  // namespace mullion::cuda
