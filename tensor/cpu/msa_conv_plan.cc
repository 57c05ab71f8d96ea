// Packing of MSA-Conv's maps into padded flat lines, and back.
#include "tensor/cpu/msa_conv_plan.h"

#include <algorithm>
#include <limits>

#include "tensor/cpu/simd.h"
#include "tensor/random.h"

namespace mullion::cpu {

namespace {

int64_t round_up(int64_t n, int64_t m) { return (n + m - 1) / m * m; }

// Pixels of one head are far apart in a packed tensor, and hardware prefetchers stop at pages.
constexpr int64_t kPrefetchPixels = 24;

// Sets n elements to zero; n is often one vector, for which a call of memset costs more than it
// does.
#if defined(__GNUC__) && !defined(__clang__)
__attribute__((optimize("no-tree-loop-distribute-patterns")))
#endif
void clear(float* p, int64_t n) {
  constexpr int L = simd::kLanes;
  for (; n >= L; n -= L, p += L) simd::store(p, simd::Vec{});
  for (; n > 0; --n) *p++ = 0;
}
void clear(double* p, int64_t n) { std::fill_n(p, n, 0.0); }

// `count` channels of n pixels, by vectors where the count allows it.
template <typename T>
void copy_pixels(const T* in, int64_t in_stride, int64_t n, int64_t count, T* out,
                 int64_t out_stride) {
  if constexpr (std::is_same_v<T, float>) {
    const auto by_vectors = [&]<int N>(std::integral_constant<int, N>) {
      const int64_t ahead = kPrefetchPixels * in_stride;
      for (int64_t i = 0; i < n; ++i)
        for (int64_t c = 0; c < count; c += N) {
          const float* from = in + i * in_stride + c;
          __builtin_prefetch(from + ahead);
          simd::store(out + i * out_stride + c, simd::load<simd::Vector<N>>(from));
        }
    };
    if (count % simd::kLanes == 0) return by_vectors(std::integral_constant<int, simd::kLanes>());
    if constexpr (simd::kLanes > 8)
      if (count % 8 == 0) return by_vectors(std::integral_constant<int, 8>());
    if (count % 4 == 0) return by_vectors(std::integral_constant<int, 4>());
  }
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < count; ++c) out[i * out_stride + c] = in[i * in_stride + c];
}

// Calls f(x, source_x, n) for the pieces of a repeated key row that are contiguous in the map.
template <typename F>
void each_piece(const MsaPlan& plan, int64_t shift_x, const F& f) {
  if (plan.g.pool > 1) {
    for (int64_t x = 0; x < plan.up_w; ++x) f(x, wrap(x / plan.g.pool - shift_x, plan.keys_w), 1);
    return;
  }
  const int64_t turn = wrap(shift_x, plan.keys_w);  // x < turn reads the end of the row
  if (turn > 0) f(int64_t{0}, plan.keys_w - turn, turn);
  f(turn, int64_t{0}, plan.keys_w - turn);
}

}  // namespace

MsaPlan make_plan(const MsaConvGeometry& g, int64_t floats_per_position, int64_t chunk) {
  constexpr int64_t kBandFloats = 96 * 1024, kFewRows = 4;
  MsaPlan p{};
  p.g = g;
  p.keys_h = g.key_height();
  p.keys_w = g.key_width();
  p.up_h = p.keys_h * g.pool;
  p.up_w = p.keys_w * g.pool;
  p.step = g.dilation * g.pool;
  p.reach_y = g.dilation * (g.kernel_h - 1) / 2 * g.pool;
  p.reach_x = g.dilation * (g.kernel_w - 1) / 2 * g.pool;
  p.row = std::max(g.width, p.up_w) + p.reach_x;
  const int64_t fitting = kBandFloats / (floats_per_position * p.row);
  p.band = std::clamp<int64_t>(fitting, std::min(kFewRows, g.height), g.height);
  p.bands = (g.height + p.band - 1) / p.band;
  p.band = (g.height + p.bands - 1) / p.bands;  // bands of like size
  p.bands = (g.height + p.band - 1) / p.band;
  p.guard = round_up(std::max<int64_t>(p.reach_x, simd::kLanes), 16);
  p.front = round_up(p.reach_x, 16);
  const int64_t n = round_up(p.band * p.row, chunk);
  p.query_plane = p.guard + n + p.guard;
  p.key_plane = round_up(p.front + n + 2 * p.reach_y * p.row + p.reach_x + simd::kLanes, 16);
  // Planes a multiple of 4 KB apart would share the sets of the first-level cache.
  if (p.key_plane % 128 == 0) p.key_plane += 16;
  if (p.query_plane % 128 == 0) p.query_plane += 16;
  return p;
}

ChannelRuns channel_runs(const MsaConvGeometry& g, int64_t head) {
  const int64_t s = g.shift == MsaShift::none ? 0 : g.shift_size;
  const int64_t along_y[] = {s, -s, 0, 0}, along_x[] = {0, 0, s, -s};
  ChannelRuns result{};
  const auto add = [&](int64_t first, int64_t count, int64_t direction) {
    result.runs[static_cast<size_t>(result.count++)] = {first, count, along_y[direction],
                                                        along_x[direction]};
  };
  if (s == 0 || g.shift == MsaShift::one_direction || g.heads >= 4) {
    const bool by_head = g.shift == MsaShift::directions;
    add(0, g.head_dim, by_head && g.heads >= 4 ? 4 * head / g.heads : g.direction);
    return result;
  }
  const int64_t channels = g.heads * g.head_dim, begin = head * g.head_dim;
  for (int64_t c = 0; c < g.head_dim;) {
    const int64_t direction = 4 * (begin + c) / channels;
    int64_t end = c + 1;
    while (end < g.head_dim && 4 * (begin + end) / channels == direction) ++end;
    add(c, end - c, direction);
    c = end;
  }
  return result;
}

template <typename T>
void pack_keys(const MsaPlan& plan, const ChannelRuns& runs, int64_t first_row, int64_t rows,
               const T* keys, int64_t stride, T* out) {
  const int64_t channels = plan.g.head_dim;
  const auto zeros = [channels](T* at, int64_t positions) {
    clear(at, positions * channels);
    return at + positions * channels;
  };
  T* line = zeros(out, plan.front);
  for (int64_t i = 0; i < rows + 2 * plan.reach_y; ++i) {
    const int64_t y = first_row - plan.reach_y + i;
    if (y < 0 || y >= plan.up_h) {
      line = zeros(line, plan.row);
      continue;
    }
    for (const ChannelRun& run : runs) {
      const T* source = keys +
                        wrap(y / plan.g.pool - run.shift_y, plan.keys_h) * plan.keys_w * stride +
                        run.first;
      each_piece(plan, run.shift_x, [&](int64_t x, int64_t sx, int64_t n) {
        copy_pixels(source + sx * stride, stride, n, run.count, line + x * channels + run.first,
                    channels);
      });
    }
    line = zeros(line + plan.up_w * channels, plan.row - plan.up_w);
  }
  zeros(line, plan.reach_x);
}

template <typename T>
void pack_queries(const MsaPlan& plan, int64_t first_row, int64_t rows, const T* queries,
                  int64_t stride, T* out) {
  const int64_t channels = plan.g.head_dim, width = plan.g.width;
  T* line = out + plan.guard * channels;
  clear(line - plan.reach_x * channels, plan.reach_x * channels);
  for (int64_t y = 0; y < rows; ++y, line += plan.row * channels) {
    copy_pixels(queries + (first_row + y) * width * stride, stride, width, channels, line,
                channels);
    clear(line + width * channels, (plan.row - width) * channels);
  }
  clear(line, plan.reach_x * channels);
}

template <typename T>
void to_planes(const T* in, int64_t plane, int64_t begin, int64_t end, int64_t channels, T factor,
               T* out) {
  if constexpr (std::is_same_v<T, float>) {
    const auto tiles = [&]<int N>(std::integral_constant<int, N>) {
      using V = simd::Vector<N>;
      for (int64_t p = begin; p < end; p += N)
        for (int64_t c = 0; c < channels; c += N) {
          V tile[N];
          MULLION_UNROLL for (int i = 0; i < N; ++i) tile[i] =
              simd::load<V>(in + (p + i) * channels + c) * factor;
          simd::transpose(tile);
          MULLION_UNROLL for (int i = 0; i < N; ++i)
              simd::store(out + (c + i) * plane + p, tile[i]);
        }
    };
    constexpr int L = simd::kLanes, L2 = simd::kLanes >= 8 ? 8 : 4;
    if (channels % L == 0) return tiles(std::integral_constant<int, L>());
    if (channels % L2 == 0) return tiles(std::integral_constant<int, L2>());
  }
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t p = begin; p < end; ++p) out[c * plane + p] = in[p * channels + c] * factor;
}

template <typename T>
void unpack_key_row(const MsaPlan& plan, const ChannelRuns& runs, int64_t first_row, int64_t y,
                    const T* row, T* keys, int64_t stride) {
  const int64_t channels = plan.g.head_dim;
  const bool add = plan.g.pool > 1 || (first_row > 0 && y < first_row + plan.reach_y);
  for (const ChannelRun& run : runs) {
    T* target =
        keys + wrap(y / plan.g.pool - run.shift_y, plan.keys_h) * plan.keys_w * stride + run.first;
    each_piece(plan, run.shift_x, [&](int64_t x, int64_t sx, int64_t n) {
      const T* from = row + x * channels + run.first;
      T* to = target + sx * stride;
      if (!add) return copy_pixels(from, channels, n, run.count, to, stride);
      for (int64_t i = 0; i < n; ++i)
        for (int64_t c = 0; c < run.count; ++c) to[i * stride + c] += from[i * channels + c];
    });
  }
}

template <typename T>
void pack_border(const MsaPlan& plan, int64_t first_row, int64_t rows, T* out) {
  std::fill(out, out + plan.key_plane, -std::numeric_limits<T>::infinity());
  for (int64_t i = 0; i < rows + 2 * plan.reach_y; ++i) {
    const int64_t y = first_row - plan.reach_y + i;
    if (y < 0 || y >= plan.up_h) continue;
    T* line = out + plan.front + i * plan.row;
    std::fill(line, line + plan.up_w, T(0));
  }
}

template <typename T>
void dropout_factors(const MsaPlan& plan, int64_t batch, int64_t head, int64_t first_row,
                     int64_t rows, T* out) {
  const MsaConvGeometry& g = plan.g;
  const int64_t taps = g.taps(), blocks = (taps + 3) / 4;
  const T kept = static_cast<T>(1.0 / (1.0 - g.dropout));
  std::fill(out, out + taps * plan.query_plane, T(1));
  for (int64_t y = 0; y < rows; ++y)
    for (int64_t x = 0; x < g.width; ++x) {
      const int64_t pixel = ((batch * g.heads + head) * g.height + first_row + y) * g.width + x;
      T* at = out + plan.guard + y * plan.row + x;
      for (int64_t block = 0; block < blocks; ++block) {
        const auto words = philox(g.seed, g.stream, static_cast<uint64_t>(pixel * blocks + block));
        for (int64_t t = 4 * block; t < std::min(taps, 4 * block + 4); ++t) {
          const double u = uniform_from_bits(words.v[t % 4]);
          at[t * plan.query_plane] = u >= g.dropout ? kept : T(0);
        }
      }
    }
}

#define MULLION_INSTANTIATE(T)                                                                     \
  template void pack_keys(const MsaPlan&, const ChannelRuns&, int64_t, int64_t, const T*, int64_t, \
                          T*);                                                                     \
  template void pack_queries(const MsaPlan&, int64_t, int64_t, const T*, int64_t, T*);             \
  template void to_planes(const T*, int64_t, int64_t, int64_t, int64_t, T, T*);                    \
  template void unpack_key_row(const MsaPlan&, const ChannelRuns&, int64_t, int64_t, const T*, T*, \
                               int64_t);                                                           \
  template void pack_border(const MsaPlan&, int64_t, int64_t, T*);                                 \
  template void dropout_factors(const MsaPlan&, int64_t, int64_t, int64_t, int64_t, T*);
MULLION_INSTANTIATE(float)
MULLION_INSTANTIATE(double)
#undef MULLION_INSTANTIATE

}  // namespace mullion::cpu
