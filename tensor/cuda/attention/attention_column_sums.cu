// How much each key was attended to, by a second pass that knows the log-sum-exp of every query:
//   sums[j] = sum_i 2^(s_ij - lse_i),  s = q k scale log2 e
// A block has 32 keys of a head, a thread one of them and every fourth query, so that no number is
// added to by two blocks. For full attention of caches: prompts, once each.
#include <algorithm>

#include "tensor/cuda/attention/attention_kernels.h"
#include "tensor/cuda/attention/attention_view.cuh"
#include "tensor/cuda/dispatch.h"

namespace mullion::cuda {
namespace {

constexpr int kThreads = 128, kKeys = 32, kQueries = 16, kParts = kThreads / kKeys;

// Rows [first, first + rows) of a head into a tile of f32, times `factor`; zeros beyond `end`.
template <typename T>
__device__ void load_tile(float* tile, int stride, int D, const void* base,
                          const AttentionStrides& strides, int batch, int head, int64_t first,
                          int rows, int64_t end, float factor) {
  for (int i = static_cast<int>(threadIdx.x); i < rows * D; i += kThreads) {
    const int row = i / D, d = i - row * D;
    tile[row * stride + d] = first + row < end
                                 ? widen(attention_row(static_cast<const T*>(base), strides, batch,
                                                       first + row, head)[d]) *
                                       factor
                                 : 0;
  }
}

template <typename T>
__global__ __launch_bounds__(kThreads) void column_sums_kernel(AttentionForwardArgs args,
                                                               bool is_causal) {
  DYNAMIC_SHARED(float, shared);
  const AttentionSizes& size = args.size;
  const int D = static_cast<int>(size.D), stride = D | 1;  // odd: no two lanes in one bank
  float* const k = shared;
  float* const q = k + kKeys * stride;
  float* const lse = q + kQueries * stride;
  float* const partial = lse + kQueries;  // kParts x kKeys
  const int head = static_cast<int>(blockIdx.y % size.H);
  const int batch = static_cast<int>(blockIdx.y / size.H);
  const int64_t first_key = static_cast<int64_t>(blockIdx.x) * kKeys;
  const int mine = static_cast<int>(threadIdx.x) % kKeys;
  const int part = static_cast<int>(threadIdx.x) / kKeys;
  const int64_t key = first_key + mine;
  load_tile<T>(k, stride, D, args.k, args.k_stride, batch,
               head / static_cast<int>(size.H / size.Hkv), first_key, kKeys, size.S, 1);
  // The first query that sees the block's first key.
  const int64_t seen_from = is_causal ? first_key - size.query_offset : 0;
  int64_t first = args.sums_from;
  if (seen_from > first) first = seen_from;
  float sum = 0;
  for (; first < size.T; first += kQueries) {
    __syncthreads();
    load_tile<T>(q, stride, D, args.q, args.q_stride, batch, head, first, kQueries, size.T,
                 static_cast<float>(size.scale) * kLog2E);
    if (threadIdx.x < kQueries) {
      const int64_t token = first + threadIdx.x;
      const float found =
          token < size.T
              ? static_cast<const float*>(args.lse)[(batch * size.H + head) * size.T + token]
              : -INFINITY;
      // A query that saw nothing, or is not there, has no probabilities.
      lse[threadIdx.x] = found == -INFINITY ? INFINITY : found * kLog2E;
    }
    __syncthreads();
    for (int row = part; row < kQueries; row += kParts) {
      float score = 0;
      for (int d = 0; d < D; ++d) score += q[row * stride + d] * k[mine * stride + d];
      const bool sees = !is_causal || key <= first + row + size.query_offset;
      if (sees) sum += exp2f(score - lse[row]);
    }
  }
  partial[part * kKeys + mine] = sum;
  __syncthreads();
  if (part != 0 || key >= size.S) return;
  float total = 0;
  for (int i = 0; i < kParts; ++i) total += partial[i * kKeys + mine];
  static_cast<float*>(args.column_sums)[(batch * size.H + head) * size.S + key] = total;
}

}  // namespace

void column_sums_forward(const AttentionForwardArgs& args) {
  const AttentionSizes& s = args.size;
  DCHECK(s.pattern->kind == PatternKind::full && args.lse != nullptr);
  const size_t bytes =
      static_cast<size_t>((kKeys + kQueries) * (s.D | 1) + kQueries + kParts * kKeys) *
      sizeof(float);
  CHECK_AS(Fault::usage, s.B * s.H <= kMaxGridYZ, "attention: column sums of ", s.B, " x ", s.H,
           " heads, at most ", kMaxGridYZ);
  dispatch_cuda("attention", s.dtype, [&](auto tag) {
    launch("attention_column_sums", column_sums_kernel<decltype(tag)>,
           {(s.S + kKeys - 1) / kKeys, s.B * s.H}, kThreads, bytes, for_device(args),
           s.pattern->causal);
  });
}

}  // namespace mullion::cuda
