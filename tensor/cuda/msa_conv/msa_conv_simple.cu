// MSA-Conv for every geometry: one group of lanes for each pixel and head, the lanes share the
// channels, and keys come through the caches. Nothing is staged, so nothing depends on the size of
// the kernel, the head or the map. The other kernels cover the common geometries; this one is their
// reference on the device and the first rung of the ladder.
//
// Backward, with P = 2^(l - lse) computed again, m the dropout's factors and D = <dO, O>:
//   dl = scale P (m <dO, v> - D),  dq(r) = sum_t dl_t(r) k(r + t)       gathered at the queries,
//   dk(r) = sum_t dl_t(r - t) q(r - t),  dv(r) = sum_t m P_t(r - t) dO(r - t)   at the keys:
// no sum crosses a group of lanes, so the bits are the same in every run.
#include <algorithm>
#include <bit>

#include "tensor/cuda/dispatch.h"
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/msa_conv/msa_conv_map.cuh"
#include "tensor/cuda/msa_conv/msa_conv_plan.h"

namespace mullion::cuda {

namespace {

constexpr int kThreads = 128;
constexpr int kWide = 8;  // channels of a lane that are summed at once, where heads are wide

// A group of lanes, a power of two in number.
struct Group {
  int lane, lanes;
  unsigned mask;

  __device__ explicit Group(int lanes_)
      : lane(static_cast<int>(threadIdx.x) % lanes_), lanes(lanes_) {
    const int first = static_cast<int>(threadIdx.x) % kWarpSize / lanes * lanes;
    mask = (lanes == kWarpSize ? kFullMask : (1u << lanes) - 1) << first;
  }
  __device__ float sum(float x) const {
    for (int offset = lanes / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(mask, x, offset);
    return x;
  }
};

// The pixel and head of a group, in maps of height x width: a row of a map is some blocks, and
// neighbouring groups read neighbouring channels.
struct Place {
  int64_t b;
  int y, x, head;

  __device__ Place(const Group& group, int height, int width, int heads) {
    const unsigned groups = static_cast<unsigned>(kThreads / group.lanes);
    const unsigned in_row = static_cast<unsigned>(width) * static_cast<unsigned>(heads);
    const unsigned blocks_a_row = (in_row + groups - 1) / groups;
    const unsigned row = blockIdx.x / blocks_a_row;
    const unsigned item =
        blockIdx.x % blocks_a_row * groups + threadIdx.x / static_cast<unsigned>(group.lanes);
    b = row / static_cast<unsigned>(height);
    y = static_cast<int>(row % static_cast<unsigned>(height));
    x = static_cast<int>(item / static_cast<unsigned>(heads));
    head = static_cast<int>(item % static_cast<unsigned>(heads));
  }
};
Grid grid_of(int64_t batch, int64_t height, int64_t width, int64_t heads, int lanes) {
  const int64_t groups = kThreads / lanes;
  return {batch * height * ((width * heads + groups - 1) / groups)};
}

// The channels of one head in all pixels of one image.
template <typename T>
struct HeadMap {
  T* first;
  int64_t stride;
  int width;

  __device__ T* at(int y, int x) const {
    return first + (static_cast<int64_t>(y) * width + x) * stride;
  }
};
template <typename T>
__device__ HeadMap<T> query_map(const MsaMap& m, const Place& p, T* map, int64_t stride) {
  const int64_t pixels = static_cast<int64_t>(m.height) * m.width;
  return {map + p.b * pixels * stride + static_cast<int64_t>(p.head) * m.head_dim, stride, m.width};
}
template <typename T>
__device__ HeadMap<T> key_map(const MsaMap& m, const Place& p, T* map, int64_t stride) {
  const int64_t pixels = static_cast<int64_t>(m.key_height) * m.key_width;
  return {map + p.b * pixels * stride + static_cast<int64_t>(p.head) * m.head_dim, stride,
          m.key_width};
}
__device__ int64_t query_number(const MsaMap& m, const Place& p, int y, int x) {
  return ((p.b * m.heads + p.head) * m.height + y) * m.width + x;
}

// Channel c of pixel (y, x) of the rolled key map, inside it.
template <typename T>
__device__ T* rolled_at(const MsaMap& m, const Place& p, const HeadMap<T>& map, int y, int x,
                        int c) {
  const Roll roll = roll_of(m, p.head, c);
  return map.at(unrolled(y, roll.y, m.key_height), unrolled(x, roll.x, m.key_width)) + c;
}
__device__ bool inside(const MsaMap& m, int y, int x) {
  return y >= 0 && y < m.key_height && x >= 0 && x < m.key_width;
}

template <typename T>
__device__ float dot_with_key(const MsaMap& m, const Group& group, const Place& p, const T* query,
                              const HeadMap<const T>& keys, int y, int x) {
  float sum = 0;
  for (int c = group.lane; c < m.head_dim; c += group.lanes)
    sum += widen(query[c]) * widen(*rolled_at(m, p, keys, y, x, c));
  return group.sum(sum);
}
template <typename T>
__device__ float dot(const MsaMap& m, const Group& group, const T* a, const T* b) {
  float sum = 0;
  for (int c = group.lane; c < m.head_dim; c += group.lanes) sum += widen(a[c]) * widen(b[c]);
  return group.sum(sum);
}

// f(i, c) for the lane's channels c of the slice of channels that begins at `first`.
template <int N, typename F>
__device__ void each_channel(const MsaMap& m, const Group& group, int first, const F& f) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const int c = first + group.lane + i * group.lanes;
    if (c < m.head_dim) f(i, c);
  }
}

template <typename T, int N>
struct KeySum {  // sum += weight * key(y, x)
  const MsaMap& m;
  const Place& p;
  const HeadMap<const T>& keys;
  int y, x;
  float weight;
  float (&sum)[N];
  __device__ void operator()(int i, int c) const {
    sum[i] += weight * widen(*rolled_at(m, p, keys, y, x, c));
  }
};
template <typename T, int N>
struct PixelSum {  // sum += weight * pixel
  const T* pixel;
  float weight;
  float (&sum)[N];
  __device__ void operator()(int i, int c) const { sum[i] += weight * widen(pixel[c]); }
};
template <typename T, int N>
struct StorePixel {
  T* pixel;
  float factor;
  const float (&sum)[N];
  __device__ void operator()(int i, int c) const { pixel[c] = narrow<T>(sum[i] * factor); }
};
template <typename T, int N>
struct StoreKey {
  const MsaMap& m;
  const Place& p;
  const HeadMap<T>& keys;
  const float (&sum)[N];
  __device__ void operator()(int i, int c) const {
    *rolled_at(m, p, keys, p.y, p.x, c) = narrow<T>(sum[i]);
  }
};

// Heads wider than a slice take their softmax once for each slice of N * lanes channels.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads, 4)
    msa_conv_simple_kernel(MsaConvArgs a, MsaMap m, int lanes) {
  const Group group(lanes);
  const Place p(group, m.height, m.width, m.heads);
  if (p.x >= m.width) return;
  const T* q = query_map(m, p, static_cast<const T*>(a.q), a.q_stride).at(p.y, p.x);
  const auto keys = key_map(m, p, static_cast<const T*>(a.k), a.k_stride);
  const auto values = key_map(m, p, static_cast<const T*>(a.v), a.v_stride);
  const int64_t number = query_number(m, p, p.y, p.x);
  for (int first = 0; first < m.head_dim; first += N * lanes) {
    float top = kBelowAllLogits, total = 0, o[N] = {};
    for (int i = 0; i < m.kernel_h; ++i)
      for (int j = 0; j < m.kernel_w; ++j) {
        const int y = p.y / m.pool - m.reach_y + i * m.dilation;
        const int x = p.x / m.pool - m.reach_x + j * m.dilation;
        const bool seen = inside(m, y, x);
        if (!seen && m.masked) continue;
        const float l = seen ? m.scale_log2 * dot_with_key(m, group, p, q, keys, y, x) : 0.0f;
        if (l > top) {
          const float shrink = exp2f(top - l);
          total *= shrink;
#pragma unroll
          for (int n = 0; n < N; ++n) o[n] *= shrink;
          top = l;
        }
        const float weight = exp2f(l - top);
        total += weight;
        if (!seen) continue;
        const float kept = dropout_factor(m, number, static_cast<int64_t>(i) * m.kernel_w + j);
        each_channel<N>(m, group, first, KeySum<T, N>{m, p, values, y, x, weight * kept, o});
      }
    total = fmaxf(total, 1e-37f);
    T* out = query_map(m, p, static_cast<T*>(a.o), a.o_stride).at(p.y, p.x);
    each_channel<N>(m, group, first, StorePixel<T, N>{out, 1.0f / total, o});
    if (group.lane == 0 && first == 0)
      static_cast<float*>(a.lse)[number] = (top + log2f(total)) * kLn2;
  }
}

template <typename T, int N>
__global__ void __launch_bounds__(kThreads, 4)
    msa_conv_simple_dq_kernel(MsaConvBackwardArgs a, MsaMap m, int lanes) {
  const Group group(lanes);
  const Place p(group, m.height, m.width, m.heads);
  if (p.x >= m.width) return;
  const T* q = query_map(m, p, static_cast<const T*>(a.q), a.q_stride).at(p.y, p.x);
  const T* g = query_map(m, p, static_cast<const T*>(a.grad_o), a.grad_o_stride).at(p.y, p.x);
  const T* o = query_map(m, p, static_cast<const T*>(a.o), a.o_stride).at(p.y, p.x);
  const auto keys = key_map(m, p, static_cast<const T*>(a.k), a.k_stride);
  const auto values = key_map(m, p, static_cast<const T*>(a.v), a.v_stride);
  const int64_t number = query_number(m, p, p.y, p.x);
  const float lse = static_cast<const float*>(a.lse)[number] * kLog2e;
  const float mean = dot(m, group, g, o);
  for (int first = 0; first < m.head_dim; first += N * lanes) {
    float dq[N] = {};
    for (int i = 0; i < m.kernel_h; ++i)
      for (int j = 0; j < m.kernel_w; ++j) {
        const int y = p.y / m.pool - m.reach_y + i * m.dilation;
        const int x = p.x / m.pool - m.reach_x + j * m.dilation;
        if (!inside(m, y, x)) continue;
        const float l = m.scale_log2 * dot_with_key(m, group, p, q, keys, y, x);
        const float da = dot_with_key(m, group, p, g, values, y, x) *
                         dropout_factor(m, number, static_cast<int64_t>(i) * m.kernel_w + j);
        const float dl = m.scale * exp2f(l - lse) * (da - mean);
        each_channel<N>(m, group, first, KeySum<T, N>{m, p, keys, y, x, dl, dq});
      }
    T* out = query_map(m, p, static_cast<T*>(a.dq), a.dq_stride).at(p.y, p.x);
    each_channel<N>(m, group, first, StorePixel<T, N>{out, 1.0f, dq});
  }
}

// One query's part in the gradients of the key at p, which is the query's tap t.
template <typename T, int N>
__device__ void add_query(const MsaConvBackwardArgs& a, const MsaMap& m, const Group& group,
                          const Place& p, int y, int x, int64_t t, int first, float (&dk)[N],
                          float (&dv)[N]) {
  const T* q = query_map(m, p, static_cast<const T*>(a.q), a.q_stride).at(y, x);
  const T* g = query_map(m, p, static_cast<const T*>(a.grad_o), a.grad_o_stride).at(y, x);
  const T* o = query_map(m, p, static_cast<const T*>(a.o), a.o_stride).at(y, x);
  const auto keys = key_map(m, p, static_cast<const T*>(a.k), a.k_stride);
  const auto values = key_map(m, p, static_cast<const T*>(a.v), a.v_stride);
  const int64_t number = query_number(m, p, y, x);
  const float lse = static_cast<const float*>(a.lse)[number] * kLog2e;
  const float l = m.scale_log2 * dot_with_key(m, group, p, q, keys, p.y, p.x);
  const float kept = dropout_factor(m, number, t), weight = exp2f(l - lse);
  const float da = kept * dot_with_key(m, group, p, g, values, p.y, p.x);
  const float dl = m.scale * weight * (da - dot(m, group, g, o));
  each_channel<N>(m, group, first, PixelSum<T, N>{q, dl, dk});
  each_channel<N>(m, group, first, PixelSum<T, N>{g, weight * kept, dv});
}

template <typename T, int N>
__global__ void __launch_bounds__(kThreads, 4)
    msa_conv_simple_dkv_kernel(MsaConvBackwardArgs a, MsaMap m, int lanes) {
  const Group group(lanes);
  const Place p(group, m.key_height, m.key_width, m.heads);
  if (p.x >= m.key_width) return;  // in the rolled map
  for (int first = 0; first < m.head_dim; first += N * lanes) {
    float dk[N] = {}, dv[N] = {};
    for (int i = 0; i < m.kernel_h; ++i)
      for (int j = 0; j < m.kernel_w; ++j) {
        // The queries of this cell see the key as their tap (i, j).
        const int cell_y = p.y + m.reach_y - i * m.dilation;
        const int cell_x = p.x + m.reach_x - j * m.dilation;
        if (!inside(m, cell_y, cell_x)) continue;
        const int y1 = min((cell_y + 1) * m.pool, m.height);
        const int x1 = min((cell_x + 1) * m.pool, m.width);
        for (int y = cell_y * m.pool; y < y1; ++y)
          for (int x = cell_x * m.pool; x < x1; ++x)
            add_query<T, N>(a, m, group, p, y, x, static_cast<int64_t>(i) * m.kernel_w + j, first,
                            dk, dv);
      }
    const auto out_k = key_map(m, p, static_cast<T*>(a.dk), a.dk_stride);
    const auto out_v = key_map(m, p, static_cast<T*>(a.dv), a.dv_stride);
    each_channel<N>(m, group, first, StoreKey<T, N>{m, p, out_k, dk});
    each_channel<N>(m, group, first, StoreKey<T, N>{m, p, out_v, dv});
  }
}

int lanes_of(const MsaMap& m) {
  return static_cast<int>(std::bit_ceil(static_cast<unsigned>(std::min(m.head_dim, 32))));
}

}  // namespace

void msa_conv_simple(const MsaConvArgs& args) {
  const MsaMap m = make_msa_map(args.geometry);
  const int lanes = lanes_of(m);
  const Grid grid = grid_of(m.batch, m.height, m.width, m.heads, lanes);
  dispatch_cuda("msa_conv", args.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch("msa_conv_simple",
           m.head_dim <= 32 ? msa_conv_simple_kernel<T, 1> : msa_conv_simple_kernel<T, kWide>, grid,
           kThreads, 0, args, m, lanes);
  });
}

void msa_conv_simple_backward(const MsaConvBackwardArgs& args) {
  const MsaMap m = make_msa_map(args.geometry);
  const int lanes = lanes_of(m);
  const Grid queries = grid_of(m.batch, m.height, m.width, m.heads, lanes);
  const Grid keys = grid_of(m.batch, m.key_height, m.key_width, m.heads, lanes);
  dispatch_cuda("msa_conv_backward", args.dtype, [&](auto zero) {
    using T = decltype(zero);
    const bool narrow_heads = m.head_dim <= 32;
    launch("msa_conv_simple_dq",
           narrow_heads ? msa_conv_simple_dq_kernel<T, 1> : msa_conv_simple_dq_kernel<T, kWide>,
           queries, kThreads, 0, args, m, lanes);
    launch("msa_conv_simple_dkv",
           narrow_heads ? msa_conv_simple_dkv_kernel<T, 1> : msa_conv_simple_dkv_kernel<T, kWide>,
           keys, kThreads, 0, args, m, lanes);
  });
}

}  // namespace mullion::cuda
