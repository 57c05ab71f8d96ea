// Attention of few queries over many keys, the step of decoding with a cache. It is bound by
// reading K and V: the keys of a block of queries are split over thread blocks, eight lanes read a
// key in vectors and keep running sums of their own for up to four rows, and sums are combined in a
// fixed order, in shared memory and then by a second kernel:
//   m = max m_i,  l = sum l_i 2^(m_i-m),  o = sum o_i 2^(m_i-m) / l
#include <algorithm>

#include "tensor/cuda/attention/attention_kernels.h"
#include "tensor/cuda/attention/attention_view.cuh"
#include "tensor/cuda/dispatch.h"

namespace mullion::cuda {
namespace {

constexpr int64_t kMostQueries = 8, kLeastKeys = 128;  // where it pays
constexpr int kThreads = 128, kLanes = 8, kStreams = kThreads / kLanes;
constexpr int kBlockRows = 32;       // of the plan
constexpr int64_t kSplitKeys = 256;  // the least a thread block reads
constexpr int64_t kBlocks = 512;     // enough to fill a device
static_assert(kBlockRows >= kMostHeads);

// A lane holds elements 64 i + 8 lane .. + 7 of a row.
template <int kPieces>
struct DecodeShape {
  static constexpr int kRows = kPieces == 4 ? 2 : 4;  // as registers allow
  static constexpr int kRowBlocks = kBlockRows / kRows;
  static constexpr int kWidth = 64 * kPieces;
  // Floats of a row in shared memory: o, top, sum, and as many more as make the rows of the four
  // streams of a warp begin 8 banks apart.
  static constexpr int kStride = kWidth + 8 / kRows;
  static constexpr size_t kBytes = static_cast<size_t>(kStreams * kRows * kStride) * 4;
  // Where element d of a row lies there: the eight of each lane are turned by the lane's number, so
  // that eight lanes which write one each, and 32 threads which read neighbours, meet all banks.
  static __device__ __forceinline__ int place(int d) { return (d & ~7) | ((d + d / 8) & 7); }
};

__device__ __forceinline__ void load_eight(float (&x)[8], const float* from) {
  const float4 a = load_vector<float4>(from), b = load_vector<float4>(from + 4);
  x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w;
  x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
}
__device__ __forceinline__ void load_eight(float (&x)[8], const Bf16* from) {
  const uint4 a = load_vector<uint4>(from);
  x[0] = low_bf16(a.x), x[1] = high_bf16(a.x), x[2] = low_bf16(a.y), x[3] = high_bf16(a.y);
  x[4] = low_bf16(a.z), x[5] = high_bf16(a.z), x[6] = low_bf16(a.w), x[7] = high_bf16(a.w);
}

// The part of a row that a lane holds; zeros beyond D.
template <int kPieces, typename T>
__device__ __forceinline__ void load_part(float (&x)[kPieces][8], const T* row, int D, int lane) {
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int d = 64 * i + 8 * lane;
    if (d < D)
      load_eight(x[i], row + d);
    else
#pragma unroll
      for (float& value : x[i]) value = 0;
  }
}

template <int kRows, int kPieces>
struct RunningSums {
  float top[kRows], sum[kRows] = {}, o[kRows][kPieces][8] = {};
};

// Adds one key with its score; -infinity adds nothing.
template <int kPieces>
__device__ __forceinline__ void add_key(float score, const float (&v)[kPieces][8], float& top,
                                        float& sum, float (&o)[kPieces][8]) {
  const float largest = fmaxf(top, score), base = largest == -INFINITY ? 0 : largest;
  const float shrink = exp2f(top - base), p = exp2f(score - base);
  top = largest;
  sum = sum * shrink + p;
#pragma unroll
  for (int i = 0; i < kPieces; ++i)
#pragma unroll
    for (int e = 0; e < 8; ++e) o[i][e] = o[i][e] * shrink + p * v[i][e];
}

// Scratch: for each row of each query block and each split D elements of o, then top and sum, in
// whole sectors of 32 bytes.
__host__ __device__ constexpr int64_t part_size(int64_t D) { return D + 8; }
__device__ __forceinline__ float* part_of(void* scratch, int64_t work, int row, int split,
                                          int splits, int D) {
  return static_cast<float*>(scratch) + ((work * kBlockRows + row) * splits + split) * part_size(D);
}

// The streams' sums in shared memory, and from there into the part of the split.
template <int kPieces>
__device__ void combine_streams(const RunningSums<DecodeShape<kPieces>::kRows, kPieces>& mine,
                                float* shared, int D, int rows, void* scratch, int64_t work,
                                int first_row, int split, int splits) {
  using Shape = DecodeShape<kPieces>;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int stream = static_cast<int>(threadIdx.x) / kLanes;
  constexpr int kTop = Shape::kWidth, kSum = kTop + 1, kStep = Shape::kRows * Shape::kStride;
#pragma unroll
  for (int r = 0; r < Shape::kRows; ++r) {
    float* const to = shared + stream * kStep + r * Shape::kStride;
    if (lane == 0) to[kTop] = mine.top[r], to[kSum] = mine.sum[r];
#pragma unroll
    for (int i = 0; i < kPieces; ++i)
#pragma unroll
      for (int e = 0; e < 8; ++e) to[Shape::place(64 * i + 8 * lane + e)] = mine.o[r][i][e];
  }
  __syncthreads();
  for (int r = 0; r < min(Shape::kRows, rows - first_row); ++r) {
    const float* const from = shared + r * Shape::kStride;
    float* const part = part_of(scratch, work, first_row + r, split, splits, D);
    float top = -INFINITY;
    for (int s = 0; s < kStreams; ++s) top = fmaxf(top, from[s * kStep + kTop]);
    const float base = top == -INFINITY ? 0 : top;
    for (int d = threadIdx.x; d < D + 1; d += kThreads) {  // o, then the sum
      const int at = d < D ? Shape::place(d) : kSum;
      float total = 0;
      for (int s = 0; s < kStreams; ++s) {
        const float* const its = from + s * kStep;
        total += its[at] * exp2f(its[kTop] - base);
      }
      part[d < D ? d : D + 1] = total;
    }
    if (threadIdx.x == 0) part[D] = top;
  }
}

// Where the probabilities of a row's keys go, for one query a sequence under full attention.
__device__ __forceinline__ float* column_sums(const AttentionForwardArgs& args,
                                              const RowBlock& rows, int row) {
  return static_cast<float*>(args.column_sums) +
         (rows.batch * args.size.H + rows.head(row)) * args.size.S;
}

template <typename T, int kPieces, bool kSums>
__global__ __launch_bounds__(kThreads) void decode_kernel(AttentionForwardArgs args,
                                                          AttentionPlan plan, int splits) {
  using Shape = DecodeShape<kPieces>;
  constexpr int kRows = Shape::kRows;
  DYNAMIC_SHARED(float, shared);
  const int split = static_cast<int>(blockIdx.x) % splits;
  const int64_t item = static_cast<int64_t>(blockIdx.x) / splits;
  const QueryWork work = plan.queries[item];
  const RowBlock rows = row_block(plan, work.group, work.i0, work.i1, args.size.query_offset);
  const KeyView view = key_view(plan, work);
  const int first_row = static_cast<int>(blockIdx.y) * kRows;
  if (first_row >= rows.rows) return;
  const int D = static_cast<int>(args.size.D);
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int stream = static_cast<int>(threadIdx.x) / kLanes;
  const float scale = static_cast<float>(args.size.scale) * kLog2E;

  float q[kRows][kPieces][8];
  int position[kRows];
  RunningSums<kRows, kPieces> sums;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int row = min(first_row + r, rows.rows - 1);
    position[r] = rows.position(row);
    sums.top[r] = -INFINITY;
    load_part(q[r],
              attention_row(static_cast<const T*>(args.q), args.q_stride, rows.batch,
                            rows.token(row), rows.head(row)),
              D, lane);
  }
  const T* const k =
      attention_row(static_cast<const T*>(args.k), args.k_stride, rows.batch, 0, rows.kv_head);
  const T* const v =
      attention_row(static_cast<const T*>(args.v), args.v_stride, rows.batch, 0, rows.kv_head);
  const int share = ((view.slots + splits - 1) / splits + kStreams - 1) / kStreams * kStreams;
  const int begin = split * share, end = min(view.slots, begin + share);
  for (int slot0 = begin; slot0 < end; slot0 += kStreams) {
    const int slot = slot0 + stream;
    const int64_t key = view.key(min(slot, end - 1));
    float k_part[kPieces][8], v_part[kPieces][8];
    load_part(k_part, k + key * args.k_stride.token, D, lane);
    load_part(v_part, v + key * args.v_stride.token, D, lane);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float score = 0;
#pragma unroll
      for (int i = 0; i < kPieces; ++i)
#pragma unroll
        for (int e = 0; e < 8; ++e) score += q[r][i][e] * k_part[i][e];
#pragma unroll
      for (int bit = 1; bit < kLanes; bit *= 2) score += __shfl_xor_sync(kFullMask, score, bit);
      score = slot < end && view.sees(position[r], slot) ? score * scale : -INFINITY;
      if constexpr (kSums)
        if (lane == 0 && slot < end && first_row + r < rows.rows)
          column_sums(args, rows, first_row + r)[key] = score;
      add_key(score, v_part, sums.top[r], sums.sum[r], sums.o[r]);
    }
  }
  combine_streams<kPieces>(sums, shared, D, rows.rows, args.scratch, item, first_row, split,
                           splits);
}

// A thread block a row: its parts in the order of the splits.
template <typename T>
__global__ __launch_bounds__(kThreads) void decode_combine_kernel(AttentionForwardArgs args,
                                                                  AttentionPlan plan, int splits) {
  const int64_t item = static_cast<int64_t>(blockIdx.x) / kBlockRows;
  const int row = static_cast<int>(blockIdx.x) % kBlockRows;
  const QueryWork work = plan.queries[item];
  const RowBlock rows = row_block(plan, work.group, work.i0, work.i1, args.size.query_offset);
  if (row >= rows.rows) return;
  const int D = static_cast<int>(args.size.D);
  const float* const parts = part_of(args.scratch, item, row, 0, splits, D);
  const int64_t step = part_size(D);
  float top = -INFINITY, sum = 0;
  for (int s = 0; s < splits; ++s) top = fmaxf(top, parts[s * step + D]);
  const float base = top == -INFINITY ? 0 : top;
  for (int s = 0; s < splits; ++s)
    sum += parts[s * step + D + 1] * exp2f(parts[s * step + D] - base);
  const int token = rows.result_token(row), head = rows.head(row);
  T* const o = attention_row(static_cast<T*>(args.o), args.o_stride, rows.batch, token, head);
  for (int d = threadIdx.x; d < D; d += kThreads) {
    float total = 0;
    for (int s = 0; s < splits; ++s)
      total += parts[s * step + d] * exp2f(parts[s * step + D] - base);
    o[d] = narrow<T>(sum == 0 ? 0 : total / sum);
  }
  if (args.lse != nullptr && threadIdx.x == 0)
    static_cast<float*>(args.lse)[(rows.batch * args.size.H + head) * args.size.T + token] =
        top * kLn2 + logf(sum);
  if (args.column_sums == nullptr) return;
  // Scores, as decode_kernel left them; of keys after the query it left none.
  float* const p = column_sums(args, rows, row);
  const int seen = key_view(plan, work).slots;
  for (int64_t key = threadIdx.x; key < args.size.S; key += kThreads)
    p[key] = key < seen ? exp2f(p[key] - base) / sum : 0;
}

struct DecodePlan {
  AttentionPlan plan;
  int splits;
};
// The splits follow from the sizes alone, so that results do not depend on the device.
DecodePlan decode_plan(const AttentionSizes& size) {
  const AttentionPlan plan = attention_plan(size, {.rows = kBlockRows});
  const int64_t fill = std::max<int64_t>(1, kBlocks / plan.n_queries);
  const int64_t most = (size.S + kSplitKeys - 1) / kSplitKeys;
  return {plan, static_cast<int>(std::min(fill, most))};
}

template <typename T, int kPieces>
void decode(const AttentionForwardArgs& args) {
  using Shape = DecodeShape<kPieces>;
  const auto [plan, splits] = decode_plan(args.size);
  launch("attention_decode",
         args.column_sums != nullptr ? decode_kernel<T, kPieces, true>
                                     : decode_kernel<T, kPieces, false>,
         {int64_t{plan.n_queries} * splits, Shape::kRowBlocks}, kThreads, Shape::kBytes,
         for_device(args), plan, splits);
  launch("attention_decode_combine", decode_combine_kernel<T>,
         {int64_t{plan.n_queries} * kBlockRows}, kThreads, 0, for_device(args), plan, splits);
}

}  // namespace

bool decode_takes(const AttentionSizes& s) {
  return s.T <= kMostQueries && s.S >= kLeastKeys && s.D % 8 == 0;
}

size_t decode_scratch(const AttentionSizes& size) {
  const auto [plan, splits] = decode_plan(size);
  return static_cast<size_t>(plan.n_queries) * kBlockRows * static_cast<size_t>(splits) *
         static_cast<size_t>(part_size(size.D)) * sizeof(float);
}

void decode_forward(const AttentionForwardArgs& args) {
  DCHECK(args.scratch != nullptr);
  dispatch_cuda("attention", args.size.dtype, [&](auto tag) {
    using T = decltype(tag);
    if (args.size.D <= 64) return decode<T, 1>(args);
    args.size.D <= 128 ? decode<T, 2>(args) : decode<T, 4>(args);
  });
}

}  // namespace mullion::cuda
