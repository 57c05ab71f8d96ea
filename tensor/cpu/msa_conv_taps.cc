// The planar forms: channel by channel over flat lines, vectorised along them, for any head width,
// kernel and type. A chunk of positions stays in registers while taps or channels are summed.
#include "tensor/cpu/msa_conv_taps.h"

#include <algorithm>
#include <type_traits>

#include "tensor/scratch.h"

namespace mullion::cpu {

namespace {

constexpr int64_t kChunk = 64;

template <typename T>
T* typed_scratch(int64_t n, int slot) {
  const auto floats = static_cast<size_t>(n) * (sizeof(T) / sizeof(float));
  return reinterpret_cast<T*>(thread_scratch(floats, slot));
}

template <typename T>
void planar_products(const MsaPlan& plan, int64_t n, const T* q, const T* k, T* out) {
  const int64_t taps = plan.g.taps();
  for (int64_t t = 0; t < taps; ++t) {
    const T* keys = k + plan.key_offset(t);
    for (int64_t p = 0; p < n; p += kChunk) {
      T acc[kChunk] = {};
      for (int64_t c = 0; c < plan.g.head_dim; ++c) {
        const T* a = q + c * plan.query_plane + plan.guard + p;
        const T* b = keys + c * plan.key_plane + p;
#pragma omp simd
        for (int64_t i = 0; i < kChunk; ++i) acc[i] += a[i] * b[i];
      }
      std::copy(acc, acc + kChunk, out + t * plan.query_plane + plan.guard + p);
    }
  }
}

template <typename T>
void planar_at_queries(const MsaPlan& plan, int64_t first_row, int64_t rows, const T* weights,
                       const T* keys, const T* factor, T* map, int64_t stride) {
  const int64_t channels = plan.g.head_dim, taps = plan.g.taps(), n = rows * plan.row;
  T* planes = typed_scratch<T>(channels * (plan.key_plane + plan.query_plane), 1);
  T* sums = planes + channels * plan.key_plane;
  to_planes(keys, plan.key_plane, 0, plan.key_extent(rows), channels, T(1), planes);
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t p = 0; p < n; p += kChunk) {
      T acc[kChunk] = {};
      for (int64_t t = 0; t < taps; ++t) {
        const T* a = weights + t * plan.query_plane + plan.guard + p;
        const T* b = planes + c * plan.key_plane + plan.key_offset(t) + p;
#pragma omp simd
        for (int64_t i = 0; i < kChunk; ++i) acc[i] += a[i] * b[i];
      }
      std::copy(acc, acc + kChunk, sums + c * plan.query_plane + p);
    }
  for (int64_t y = 0; y < rows; ++y)
    for (int64_t x = 0; x < plan.g.width; ++x) {
      const int64_t p = y * plan.row + x;
      const T scale = factor ? factor[plan.guard + p] : T(1);
      T* pixel = map + ((first_row + y) * plan.g.width + x) * stride;
      for (int64_t c = 0; c < channels; ++c) pixel[c] = sums[c * plan.query_plane + p] * scale;
    }
}

template <typename T>
void planar_at_keys(const MsaPlan& plan, const ChannelRuns& runs, int64_t first_row, int64_t rows,
                    const T* weights, const T* queries, T* map, int64_t stride) {
  const int64_t channels = plan.g.head_dim, taps = plan.g.taps(), n = rows * plan.row;
  T* planes = typed_scratch<T>(channels * (plan.query_plane + plan.key_plane + plan.up_w), 1);
  T* sums = planes + channels * plan.query_plane;
  T* line = sums + channels * plan.key_plane;
  to_planes(queries, plan.query_plane, plan.guard, plan.guard + n, channels, T(1), planes);
  std::fill(sums, sums + channels * plan.key_plane, T(0));
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t t = 0; t < taps; ++t) {
      const T* a = weights + t * plan.query_plane + plan.guard;
      const T* b = planes + c * plan.query_plane + plan.guard;
      T* s = sums + c * plan.key_plane + plan.key_offset(t);
#pragma omp simd
      for (int64_t p = 0; p < n; ++p) s[p] += a[p] * b[p];
    }
  for (int64_t i = 0; i < rows + 2 * plan.reach_y; ++i) {
    const int64_t y = first_row - plan.reach_y + i;
    if (y < 0 || y >= plan.up_h) continue;
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t x = 0; x < plan.up_w; ++x)
        line[x * channels + c] = sums[c * plan.key_plane + plan.front + i * plan.row + x];
    unpack_key_row(plan, runs, first_row, y, line, map, stride);
  }
}

}  // namespace

template <typename T>
int64_t line_chunk(const MsaConvGeometry& g) {
  return std::is_same_v<T, float> && has_blocked_taps(g) ? 16 : kChunk;
}

template <typename T>
void tap_products(const MsaPlan& plan, int64_t rows, const T* q, const T* k, T* out) {
  if constexpr (std::is_same_v<T, float>)
    if (has_blocked_taps(plan.g)) return blocked_tap_products(plan, rows, q, k, out);
  planar_products(plan, rows * plan.row, q, k, out);
}

template <typename T>
void gather_at_queries(const MsaPlan& plan, int64_t first_row, int64_t rows, const T* weights,
                       const T* keys, const T* factor, T* map, int64_t stride) {
  if constexpr (std::is_same_v<T, float>)
    if (has_blocked_taps(plan.g))
      return blocked_gather_at_queries(plan, first_row, rows, weights, keys, factor, map, stride);
  planar_at_queries(plan, first_row, rows, weights, keys, factor, map, stride);
}

template <typename T>
void gather_at_keys(const MsaPlan& plan, const ChannelRuns& runs, int64_t first_row, int64_t rows,
                    const T* weights, const T* queries, T* map, int64_t stride) {
  if constexpr (std::is_same_v<T, float>)
    if (has_blocked_taps(plan.g))
      return blocked_gather_at_keys(plan, runs, first_row, rows, weights, queries, map, stride);
  planar_at_keys(plan, runs, first_row, rows, weights, queries, map, stride);
}

#define MULLION_INSTANTIATE(T)                                                                    \
  template int64_t line_chunk<T>(const MsaConvGeometry&);                                         \
  template void tap_products(const MsaPlan&, int64_t, const T*, const T*, T*);                    \
  template void gather_at_queries(const MsaPlan&, int64_t, int64_t, const T*, const T*, const T*, \
                                  T*, int64_t);                                                   \
  template void gather_at_keys(const MsaPlan&, const ChannelRuns&, int64_t, int64_t, const T*,    \
                               const T*, T*, int64_t);
MULLION_INSTANTIATE(float)
MULLION_INSTANTIATE(double)
#undef MULLION_INSTANTIATE

}  // namespace mullion::cpu
