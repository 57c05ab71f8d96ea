// Updates of whole lists of parameters in one launch: the list lies on the device, every block
// takes one chunk of one parameter and finds it by the number of its first chunk. Learning rates
// come with the launch, so that a list whose addresses are those of the step before need not be
// sent. The factor of clipping is computed by every block from the sum of squares, so that the host
// never waits for it.
#include <algorithm>
#include <cmath>
#include <vector>

#include "tensor/cuda/kernels.h"
#include "tensor/cuda/rows.cuh"
#include "tensor/cuda/runtime/kept_upload.h"
#include "tensor/cuda/runtime/runtime.h"

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
  int64_t rates;  // which of the launch's
};

// What a kernel makes of lr and weight_decay.
struct Rates {
  float rate, decay;
  bool operator==(const Rates&) const = default;
};
constexpr size_t kMostRates = 16;  // of a launch
struct RateTable {
  Rates of[kMostRates];
};

// Items on the device, with rates of their own for at most kMostRates groups of them.
class ItemList {
 public:
  ItemList(const std::vector<Item>& items, const RateTable& rates, int64_t chunks)
      : count_(static_cast<int64_t>(items.size())),
        chunks_(chunks),
        rates_(rates),
        memory_(kept_upload(items)) {}
  const Item* items() const { return reinterpret_cast<const Item*>(memory_->data()); }
  int64_t count() const { return count_; }
  int64_t chunks() const { return chunks_; }
  const RateTable& rates() const { return rates_; }

 private:
  int64_t count_, chunks_;
  RateTable rates_;
  std::shared_ptr<Storage> memory_;
};

// use(list) for all items: one list, unless there are more different rates than a launch takes.
template <typename RatesOf, typename Use>
void for_lists(const OptimizerItem* items, int64_t count, int64_t chunk, RatesOf rates_of,
               Use use) {
  int64_t i = 0;
  do {
    std::vector<Item> list;
    RateTable table{};
    int64_t chunks = 0;
    for (size_t known = 0; i < count; ++i) {
      const OptimizerItem& item = items[i];
      const Rates rates = rates_of(item, i);
      const auto place =
          static_cast<size_t>(std::find(table.of, table.of + known, rates) - table.of);
      if (place == kMostRates) break;
      if (place == known) table.of[known++] = rates;
      list.push_back({item.parameter, item.grad, item.first, item.second, item.n, chunks,
                      static_cast<int64_t>(place)});
      chunks += (item.n + chunk - 1) / chunk;
    }
    use(ItemList(list, table, chunks));
  } while (i < count);
}

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
    adamw_kernel(const Item* items, int64_t count, RateTable table, AdamW a, Clipping clipping) {
  if (!applies(clipping.sum_squares)) return;
  const float factor = factor_of(clipping);
  const Item& item = item_of(items, count);
  const Rates its = table.of[item.rates];
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
      p.v[j] = p.v[j] * its.decay - its.rate * m.v[j] / (sqrtf(v.v[j]) * a.root_scale + a.eps);
    }
    store<N>(item.parameter + i, p);
    store<N>(item.first + i, m);
    store<N>(item.second + i, v);
  });
}

__global__ void __launch_bounds__(kThreads)
    sgd_kernel(const Item* items, int64_t count, RateTable table, float momentum, bool first_step,
               bool nesterov, Clipping clipping) {
  if (!applies(clipping.sum_squares)) return;
  const float factor = factor_of(clipping);
  const Item& item = item_of(items, count);
  const Rates its = table.of[item.rates];
  for_chunk(item, kChunk, moves_vectors(item), [&](auto tag, int64_t i) {
    constexpr int N = sizeof(tag) / sizeof(float);
    const Floats<N> g = load<N>(item.grad + i);
    Floats<N> p = load<N>(item.parameter + i), buffer;
    if (momentum != 0 && !first_step) buffer = load<N>(item.first + i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      float x = g.v[j] * factor + its.decay * p.v[j];
      if (momentum != 0) {
        buffer.v[j] = first_step ? x : momentum * buffer.v[j] + x;
        x = nesterov ? x + momentum * buffer.v[j] : buffer.v[j];
      }
      p.v[j] -= its.rate * x;
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

// Each chunk's sum of squares; the rate is 1, or 0 for a watched item.
__global__ void __launch_bounds__(kThreads)
    squares_kernel(const Item* items, int64_t count, RateTable table, double* sums) {
  const Item& item = item_of(items, count);
  const float weight = table.of[item.rates].rate;
  double sum = 0;
  for_chunk(item, kSquaresChunk, moves_vectors(item), [&](auto tag, int64_t i) {
    constexpr int N = sizeof(tag) / sizeof(float);
    const Floats<N> g = load<N>(item.grad + i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const double x = double{weight * g.v[j]};
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

}  // namespace

void adamw(const AdamWArgs& args) {
  const double step = static_cast<double>(args.step);
  const double correction1 = 1 - std::pow(args.beta1, step);
  const double correction2 = std::sqrt(1 - std::pow(args.beta2, step));
  const AdamW constants{static_cast<float>(args.beta1), static_cast<float>(1 - args.beta1),
                        static_cast<float>(args.beta2), static_cast<float>(1 - args.beta2),
                        static_cast<float>(args.eps),   static_cast<float>(1 / correction2)};
  const auto rates = [&](const OptimizerItem& item, int64_t) {
    return Rates{static_cast<float>(item.lr / correction1),
                 static_cast<float>(1 - item.lr * item.weight_decay)};
  };
  for_lists(args.items, args.count, kChunk, rates, [&](const ItemList& list) {
    launch("adamw", adamw_kernel, Grid{list.chunks()}, kThreads, 0, list.items(), list.count(),
           list.rates(), constants, args.clipping);
  });
}

void sgd(const SgdArgs& args) {
  const auto rates = [](const OptimizerItem& item, int64_t) {
    return Rates{static_cast<float>(item.lr), static_cast<float>(item.weight_decay)};
  };
  for_lists(args.items, args.count, kChunk, rates, [&](const ItemList& list) {
    launch("sgd", sgd_kernel, Grid{list.chunks()}, kThreads, 0, list.items(), list.count(),
           list.rates(), static_cast<float>(args.momentum), args.step <= 1, args.nesterov,
           args.clipping);
  });
}

void ema(const EmaArgs& args) {
  const auto none = [](const OptimizerItem&, int64_t) { return Rates{}; };
  for_lists(args.items, args.count, kChunk, none, [&](const ItemList& list) {
    launch("ema", ema_kernel, Grid{list.chunks()}, kThreads, 0, list.items(), list.count(),
           static_cast<float>(args.decay), static_cast<float>(1 - args.decay), args.sum_squares);
  });
}

void sum_squares(const SumSquaresArgs& args) {
  const auto weight = [&](const OptimizerItem&, int64_t i) {
    return Rates{i < args.count ? 1.0f : 0.0f, 0};
  };
  const int64_t count = args.count + args.watched;
  for_lists(args.items, count, kSquaresChunk, weight, [&](const ItemList& list) {
    const Storage memory = scratch(list.chunks() * int64_t{sizeof(double)});
    auto* const sums = reinterpret_cast<double*>(memory.data());
    launch("sum_squares", squares_kernel, Grid{list.chunks()}, kThreads, 0, list.items(),
           list.count(), list.rates(), sums);
    launch("sum_squares", add_sums_kernel, Grid{1}, kThreads, 0, static_cast<const double*>(sums),
           list.chunks(), args.result);
  });
}

}  // namespace mullion::cuda
