// Register-blocked tap products for f32 and square kernels of 3, 5 and 7.
// Logits: a vector of key positions meets the query rows of several tap rows at once, so that
// rows x k sums stay in registers for one load of each query and key. Gathers: vectors run over
// channels, several neighbouring pixels at a time share each loaded key, and weights are broadcast.
#include <algorithm>

#include "tensor/cpu/msa_conv_taps.h"
#include "tensor/cpu/simd.h"
#include "tensor/scratch.h"

namespace mullion::cpu {

namespace {

using simd::kLanes;
using simd::Vec;

// Tap rows whose k sums fit the registers together with their operands.
template <int K>
constexpr int kTapRows = simd::kRegisters == 32 ? (K == 3   ? 3
                                                   : K == 5 ? 5
                                                            : 3)
                                                : (K == 3 ? 3 : 1);

struct Planes {
  int64_t channels, query_plane, key_plane, row_step, step;
};

// Tap rows i = 0 .. R-1 of keys at k and queries at q - i row_step, to out likewise.
template <int K, int R>
MULLION_INLINE void tap_rows(const Planes& g, const float* q, const float* k, float* out) {
  Vec sums[R][K] = {};
  for (int64_t c = 0; c < g.channels; ++c) {
    Vec queries[R];
    MULLION_UNROLL for (int i = 0; i < R; ++i) queries[i] = simd::load(q - i * g.row_step);
    MULLION_UNROLL for (int j = 0; j < K; ++j) {
      const Vec key = simd::load(k + j * g.step);
      MULLION_UNROLL for (int i = 0; i < R; ++i) sums[i][j] += queries[i] * key;
    }
    q += g.query_plane;
    k += g.key_plane;
  }
  MULLION_UNROLL for (int i = 0; i < R; ++i) MULLION_UNROLL for (int j = 0; j < K; ++j)
      simd::store(out + (i * K + j) * g.query_plane - i * g.row_step, sums[i][j]);
}

template <int K>
void products(const MsaPlan& plan, int64_t n, const float* q, const float* k, float* out) {
  const Planes g{plan.g.head_dim, plan.query_plane, plan.key_plane, plan.row_step(), plan.step};
  q += plan.guard;
  out += plan.guard;
  k += plan.front - plan.reach_x;
  constexpr int kMost = kTapRows<K>;
  for (int64_t a = 0; a < n + (K - 1) * g.row_step; a += kLanes) {
    // Tap row i belongs to queries from p = a - i row_step, with -kLanes < p < n.
    int64_t i = a < n ? 0 : (a - n) / g.row_step + 1;
    const int64_t end = std::min<int64_t>(K, (a + kLanes - 1) / g.row_step + 1);
    while (i < end) {
      const float* queries = q + a - i * g.row_step;
      float* to = out + i * K * g.query_plane + a - i * g.row_step;
      int64_t rows = std::min<int64_t>(end - i, kMost);
      if (end - i == kMost + 1 && kMost > 2) rows = kMost - 1;  // 2 + 2 rather than 3 + 1
      switch (rows) {
        case 1:
          tap_rows<K, 1>(g, queries, k + a, to);
          break;
        case 2:
          tap_rows<K, std::min(2, kMost)>(g, queries, k + a, to);
          break;
        case 3:
          tap_rows<K, std::min(3, kMost)>(g, queries, k + a, to);
          break;
        case 4:
          tap_rows<K, std::min(4, kMost)>(g, queries, k + a, to);
          break;
        default:
          tap_rows<K, std::min(5, kMost)>(g, queries, k + a, to);
          break;
      }
      i += rows;
    }
  }
}

struct Gather {
  const float* weights;  // of tap 0, at position 0
  int64_t plane;         // from one tap's weights to the next
  const float* source;   // pixels of `channels`, at position 0 less the window's reach
  int64_t channels, row_step, step;
};

// X neighbouring pixels at position `at`, N vectors of channels from `channel`, tap rows [i0, i1).
// Transposed, pixels are keys and weights lie beside the source, with the taps in reverse.
template <class V, int K, int N, int X, bool kUnitStep, bool kTransposed>
MULLION_INLINE void gather_pixels(const Gather& g, int64_t at, int64_t i0, int64_t i1,
                                  int64_t channel, const float* factor, float* out,
                                  int64_t stride) {
  constexpr int L = simd::lanes_of<V>;
  V sums[X][N] = {};
  for (int64_t i = i0; i < i1; ++i) {
    const int64_t base = kTransposed ? at - i * g.row_step : at + i * g.row_step;
    const float* source = g.source + base * g.channels + channel;
    const float* weights = g.weights + i * K * g.plane + (kTransposed ? base : at);
    if constexpr (kUnitStep) {
      MULLION_UNROLL for (int u = 0; u < X + K - 1; ++u) {
        V values[N];
        MULLION_UNROLL for (int v = 0; v < N; ++v) values[v] =
            simd::load<V>(source + u * g.channels + v * L);
        MULLION_UNROLL for (int x = 0; x < X; ++x) {
          const int j = u - x;
          if (j < 0 || j >= K) continue;
          const float w =
              kTransposed ? weights[(K - 1 - j) * g.plane + u] : weights[j * g.plane + x];
          MULLION_UNROLL for (int v = 0; v < N; ++v) sums[x][v] += w * values[v];
        }
      }
    } else {
      MULLION_UNROLL for (int j = 0; j < K; ++j) {
        const int64_t shift = j * g.step;
        const float* w =
            kTransposed ? weights + (K - 1 - j) * g.plane + shift : weights + j * g.plane;
        MULLION_UNROLL for (int x = 0; x < X; ++x) MULLION_UNROLL for (int v = 0; v < N; ++v)
            sums[x][v] += w[x] * simd::load<V>(source + (x + shift) * g.channels + v * L);
      }
    }
  }
  MULLION_UNROLL for (int x = 0; x < X; ++x) {
    const float f = factor ? factor[x] : 1.0f;
    MULLION_UNROLL for (int v = 0; v < N; ++v)
        simd::store(out + x * stride + channel + v * L, f * sums[x][v]);
  }
}

// One row of `width` pixels. The last block of a row overlaps the one before it.
template <class V, int K, int N, bool kUnitStep, bool kTransposed>
void gather_row(const Gather& g, int64_t at, int64_t width, int64_t i0, int64_t i1,
                const float* factor, float* out, int64_t stride) {
  constexpr int kMost = (simd::kRegisters == 32 ? 16 : 8) / N;
  const auto blocks = [&]<int X>(std::integral_constant<int, X>) {
    for (int64_t c = 0; c < g.channels; c += N * simd::lanes_of<V>)
      for (int64_t x = 0; x < width; x += X) {
        const int64_t from = std::min(x, width - X);
        gather_pixels<V, K, N, X, kUnitStep, kTransposed>(
            g, at + from, i0, i1, c, factor ? factor + from : nullptr, out + from * stride, stride);
      }
  };
  if (width >= kMost && (width % kMost == 0 || width > 2 * kMost))
    return blocks(std::integral_constant<int, kMost>());
  if (width >= kMost / 2) return blocks(std::integral_constant<int, kMost / 2>());
  if (width >= 2) return blocks(std::integral_constant<int, 2>());
  blocks(std::integral_constant<int, 1>());
}

using RowFunction = void (*)(const Gather&, int64_t, int64_t, int64_t, int64_t, const float*,
                             float*, int64_t);

template <class V, int K, bool kTransposed>
RowFunction row_function(int64_t vectors, bool unit_step) {
  if (vectors % 2 == 0)
    return unit_step ? gather_row<V, K, 2, true, kTransposed>
                     : gather_row<V, K, 2, false, kTransposed>;
  return unit_step ? gather_row<V, K, 1, true, kTransposed>
                   : gather_row<V, K, 1, false, kTransposed>;
}

template <bool kTransposed>
RowFunction row_function(const MsaPlan& plan) {
  const auto of = [&]<int K>(std::integral_constant<int, K>) {
    constexpr int kHalf = std::min(kLanes, 8);
    const int64_t c = plan.g.head_dim;
    if (c % kLanes == 0) return row_function<Vec, K, kTransposed>(c / kLanes, plan.step == 1);
    return row_function<simd::Vector<kHalf>, K, kTransposed>(c / kHalf, plan.step == 1);
  };
  if (plan.g.kernel_w == 3) return of(std::integral_constant<int, 3>());
  if (plan.g.kernel_w == 5) return of(std::integral_constant<int, 5>());
  return of(std::integral_constant<int, 7>());
}

}  // namespace

bool has_blocked_taps(const MsaConvGeometry& g) {
  const bool kernel = g.kernel_h == 3 || g.kernel_h == 5 || g.kernel_h == 7;
  return kernel && g.kernel_h == g.kernel_w && g.head_dim % 8 == 0;
}

void blocked_tap_products(const MsaPlan& plan, int64_t rows, const float* q, const float* k,
                          float* out) {
  const int64_t n = rows * plan.row;
  if (plan.g.kernel_w == 3) return products<3>(plan, n, q, k, out);
  if (plan.g.kernel_w == 5) return products<5>(plan, n, q, k, out);
  products<7>(plan, n, q, k, out);
}

void blocked_gather_at_queries(const MsaPlan& plan, int64_t first_row, int64_t rows,
                               const float* weights, const float* keys, const float* factor,
                               float* map, int64_t stride) {
  const int64_t channels = plan.g.head_dim;
  const Gather g{weights + plan.guard,
                 plan.query_plane,
                 keys + (plan.front - plan.reach_x) * channels,
                 channels,
                 plan.row_step(),
                 plan.step};
  const RowFunction row = row_function<false>(plan);
  for (int64_t y = 0; y < rows; ++y) {
    // Key rows outside the map are zero and need no visit.
    const int64_t top = first_row + y - plan.reach_y, bottom = plan.up_h - 1 - top;
    const int64_t i0 = top < 0 ? (-top + plan.step - 1) / plan.step : 0;
    const int64_t i1 = std::min(plan.g.kernel_h, bottom / plan.step + 1);
    row(g, y * plan.row, plan.g.width, i0, i1,
        factor ? factor + plan.guard + y * plan.row : nullptr,
        map + (first_row + y) * plan.g.width * stride, stride);
  }
}

void blocked_gather_at_keys(const MsaPlan& plan, const ChannelRuns& runs, int64_t first_row,
                            int64_t rows, const float* weights, const float* queries, float* map,
                            int64_t stride) {
  const int64_t channels = plan.g.head_dim;
  const int64_t origin = plan.guard - plan.reach_x;
  const Gather g{weights + origin, plan.query_plane, queries + origin * channels,
                 channels,         plan.row_step(),  plan.step};
  float* line = thread_scratch(static_cast<size_t>(plan.up_w * channels), 1);
  const RowFunction row = row_function<true>(plan);
  for (int64_t i = 0; i < rows + 2 * plan.reach_y; ++i) {
    const int64_t y = first_row - plan.reach_y + i;
    if (y < 0 || y >= plan.up_h) continue;
    // Tap row n of key row i comes from query row i - n step of the band.
    const int64_t first = i - rows + 1;
    const int64_t i0 = first > 0 ? (first + plan.step - 1) / plan.step : 0;
    const int64_t i1 = std::min(plan.g.kernel_h, i / plan.step + 1);
    row(g, i * plan.row, plan.up_w, i0, i1, nullptr, line, channels);
    unpack_key_row(plan, runs, first_row, y, line, map, stride);
  }
}

}  // namespace mullion::cpu
