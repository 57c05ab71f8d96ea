// Updates of whole lists of parameters in one launch: the list lies on the device, every block
// takes one chunk of one parameter and finds it by the number of its first chunk. The factor of
// clipping is computed by every block from the sum of squares, so that the host never waits for it.
#include "tensor/kernel_args/optimizer.h"

#include <cmath>
#include <vector>

#include "tensor/cuda/kernels.h"
#include "tensor/cuda/rows.cuh"
#include "tensor/cuda/runtime.h"

namespace mullion::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kLanes = 4;
constexpr int64_t kChunk = 4096;          // elements of a parameter that a block updates
constexpr int64_t kSquaresChunk = 16384;  // and of a sum of squares

struct Item {
  float* parameter;
  const float* grad;
  float *first, *second;
  int64_t n, first_chunk;
  float rate, decay;  // what the kernel makes of lr and weight_decay
};

// A list of items on the device, with room for what a kernel adds behind it.
class ItemList {
 public:
  template <typename Rate, typename Decay>
  ItemList(const OptimizerItem* items, int64_t count, int64_t chunk, Rate rate, Decay decay,
           int64_t doubles_a_chunk = 0)
      : count_(count),
        chunks_(chunks_of(items, count, chunk)),
        memory_(scratch(count * int64_t{sizeof(Item)} +
                        chunks_ * doubles_a_chunk * int64_t{sizeof(double)})) {
    std::vector<Item> list;
    int64_t first_chunk = 0;
    for (int64_t i = 0; i < count; ++i) {
      const OptimizerItem& item = items[i];
      list.push_back({item.parameter, item.grad, item.first, item.second, item.n, first_chunk,
                      rate(item, i), decay(item, i)});
      first_chunk += (item.n + chunk - 1) / chunk;
    }
    upload(memory_.data(), list.data(), count * int64_t{sizeof(Item)}, current_device());
  }
  const Item* items() const { return reinterpret_cast<const Item*>(memory_.data()); }
  int64_t count() const { return count_; }
  int64_t chunks() const { return chunks_; }
  double* sums() const {
    return reinterpret_cast<double*>(memory_.data() + count_ * int64_t{sizeof(Item)});
  }

 private:
  static int64_t chunks_of(const OptimizerItem* items, int64_t count, int64_t chunk) {
    int64_t sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += (items[i].n + chunk - 1) / chunk;
    return sum;
  }

  int64_t count_, chunks_;
  Storage memory_;
};

// The item to which this block's chunk belongs.
__device__ __forceinline__ const Item& item_of(const Item* items, int64_t count) {
  const int64_t chunk = blockIdx.x;
  int64_t low = 0, high = count - 1;  // the last item that begins at or before the chunk
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (items[middle].first_chunk <= chunk)
      low = middle;
    else
      high = middle - 1;
  }
  return items[low];
}

// f(tag, i) for the elements of this block's chunk: with Floats<4> where the arrays allow, from
// which on i elements, else one by one.
template <typename F>
__device__ __forceinline__ void for_chunk(const Item& item, int64_t chunk, bool vectors, F f) {
  const int64_t begin = (int64_t{blockIdx.x} - item.first_chunk) * chunk;
  const int64_t end = min(begin + chunk, item.n);
  const int64_t whole = vectors ? begin + (end - begin) / kLanes * kLanes : begin;
  for (int64_t i = begin + int64_t{threadIdx.x} * kLanes; i < whole; i += kThreads * kLanes)
    f(Floats<kLanes>{}, i);
  for (int64_t i = whole + threadIdx.x; i < end; i += kThreads) f(Floats<1>{}, i);
}

// Whether every array of the item can be moved 16 bytes at a time; null counts as one.
__device__ __forceinline__ bool moves_vectors(const Item& item) {
  return (reinterpret_cast<uintptr_t>(item.parameter) | reinterpret_cast<uintptr_t>(item.grad) |
          reinterpret_cast<uintptr_t>(item.first) | reinterpret_cast<uintptr_t>(item.second)) %
             16 ==
         0;
}

// Whether the update is made at all, and with which factor.
__device__ __forceinline__ bool applies(const double* sum_squares) {
  return !sum_squares || std::isfinite(*sum_squares);
}
__device__ __forceinline__ float factor_of(const Clipping& c) {
  return c.sum_squares ? static_cast<float>(clip_factor(*c.sum_squares, c.max_norm)) : 1.0f;
}

struct AdamW {
  float keep1, take1, keep2, take2, eps, root_scale;
};

__global__ void __launch_bounds__(kThreads)
    adamw_kernel(const Item* items, int64_t count, AdamW a, Clipping clipping) {
  if (!applies(clipping.sum_squares)) return;
  const float factor = factor_of(clipping);
  const Item& item = item_of(items, count);
  for_chunk(item, kChunk, moves_vectors(item), [&](auto tag, int64_t i) {
    constexpr int N = sizeof(tag) / sizeof(float);
    const Floats<N> g = load<N>(item.grad + i);
    Floats<N> p = load<N>(item.parameter + i), m = load<N>(item.first + i),
              v = load<N>(item.second + i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const float x = g.v[j] * factor;
      m.v[j] = m.v[j] * a.keep1 + x * a.take1;
      v.v[j] = v.v[j] * a.keep2 + x * x * a.take2;
      p.v[j] = p.v[j] * item.decay - item.rate * m.v[j] / (sqrtf(v.v[j]) * a.root_scale + a.eps);
    }
    store<N>(item.parameter + i, p);
    store<N>(item.first + i, m);
    store<N>(item.second + i, v);
  });
}

__global__ void __launch_bounds__(kThreads)
    sgd_kernel(const Item* items, int64_t count, float momentum, bool first_step, bool nesterov,
               Clipping clipping) {
  if (!applies(clipping.sum_squares)) return;
  const float factor = factor_of(clipping);
  const Item& item = item_of(items, count);
  for_chunk(item, kChunk, moves_vectors(item), [&](auto tag, int64_t i) {
    constexpr int N = sizeof(tag) / sizeof(float);
    const Floats<N> g = load<N>(item.grad + i);
    Floats<N> p = load<N>(item.parameter + i), buffer;
    if (momentum != 0 && !first_step) buffer = load<N>(item.first + i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      float x = g.v[j] * factor + item.decay * p.v[j];
      if (momentum != 0) {
        buffer.v[j] = first_step ? x : momentum * buffer.v[j] + x;
        x = nesterov ? x + momentum * buffer.v[j] : buffer.v[j];
      }
      p.v[j] -= item.rate * x;
    }
    if (momentum != 0) store<N>(item.first + i, buffer);
    store<N>(item.parameter + i, p);
  });
}

__global__ void __launch_bounds__(kThreads) ema_kernel(const Item* items, int64_t count, float keep,
                                                       float take, const double* sum_squares) {
  if (!applies(sum_squares)) return;
  const Item& item = item_of(items, count);
  for_chunk(item, kChunk, moves_vectors(item), [&](auto tag, int64_t i) {
    constexpr int N = sizeof(tag) / sizeof(float);
    const Floats<N> value = load<N>(item.grad + i);
    Floats<N> average = load<N>(item.parameter + i);
#pragma unroll
    for (int j = 0; j < N; ++j) average.v[j] = keep * average.v[j] + take * value.v[j];
    store<N>(item.parameter + i, average);
  });
}

// The sum over the block in a fixed order, known to thread 0.
__device__ __forceinline__ double block_sum(double x) {
  SHARED(double, parts, [kThreads]);
  parts[threadIdx.x] = x;
  __syncthreads();
#pragma unroll
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (static_cast<int>(threadIdx.x) < half) parts[threadIdx.x] += parts[threadIdx.x + half];
    __syncthreads();
  }
  return parts[0];
}

// Each chunk's sum of squares; `rate` is 1, or 0 for a watched item.
__global__ void __launch_bounds__(kThreads)
    squares_kernel(const Item* items, int64_t count, double* sums) {
  const Item& item = item_of(items, count);
  double sum = 0;
  for_chunk(item, kSquaresChunk, moves_vectors(item), [&](auto tag, int64_t i) {
    constexpr int N = sizeof(tag) / sizeof(float);
    const Floats<N> g = load<N>(item.grad + i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const double x = double{item.rate * g.v[j]};
      sum += x * x;
    }
  });
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads)
    add_sums_kernel(const double* sums, int64_t count, double* result) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) sum += sums[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *result = sum;
}

float one(const OptimizerItem&, int64_t) { return 1; }
float zero(const OptimizerItem&, int64_t) { return 0; }

}  // namespace

void adamw(const AdamWArgs& args) {
  const double step = static_cast<double>(args.step);
  const double correction1 = 1 - std::pow(args.beta1, step);
  const double correction2 = std::sqrt(1 - std::pow(args.beta2, step));
  const AdamW constants{static_cast<float>(args.beta1), static_cast<float>(1 - args.beta1),
                        static_cast<float>(args.beta2), static_cast<float>(1 - args.beta2),
                        static_cast<float>(args.eps),   static_cast<float>(1 / correction2)};
  const auto rate = [&](const OptimizerItem& item, int64_t) {
    return static_cast<float>(item.lr / correction1);
  };
  const auto decay = [](const OptimizerItem& item, int64_t) {
    return static_cast<float>(1 - item.lr * item.weight_decay);
  };
  const ItemList list(args.items, args.count, kChunk, rate, decay);
  launch("adamw", adamw_kernel, Grid{list.chunks()}, kThreads, 0, list.items(), list.count(),
         constants, args.clipping);
}

void sgd(const SgdArgs& args) {
  const auto rate = [](const OptimizerItem& item, int64_t) { return static_cast<float>(item.lr); };
  const auto decay = [](const OptimizerItem& item, int64_t) {
    return static_cast<float>(item.weight_decay);
  };
  const ItemList list(args.items, args.count, kChunk, rate, decay);
  launch("sgd", sgd_kernel, Grid{list.chunks()}, kThreads, 0, list.items(), list.count(),
         static_cast<float>(args.momentum), args.step <= 1, args.nesterov, args.clipping);
}

void ema(const EmaArgs& args) {
  const ItemList list(args.items, args.count, kChunk, one, zero);
  launch("ema", ema_kernel, Grid{list.chunks()}, kThreads, 0, list.items(), list.count(),
         static_cast<float>(args.decay), static_cast<float>(1 - args.decay), args.sum_squares);
}

void sum_squares(const SumSquaresArgs& args) {
  const auto weight = [&](const OptimizerItem&, int64_t i) { return i < args.count ? 1.0f : 0.0f; };
  const ItemList list(args.items, args.count + args.watched, kSquaresChunk, weight, zero, 1);
  launch("sum_squares", squares_kernel, Grid{list.chunks()}, kThreads, 0, list.items(),
         list.count(), list.sums());
  launch("sum_squares", add_sums_kernel, Grid{1}, kThreads, 0,
         static_cast<const double*>(list.sums()), list.chunks(), args.result);
}

}  // namespace mullion::cuda
