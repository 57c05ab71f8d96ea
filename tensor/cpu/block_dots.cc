// One template over ways of computing, chosen once by what the processor has.
#include "tensor/cpu/block_dots.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tensor/check.h"
#if defined(__AVX2__)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 in its own AVX-512 intrinsics
#endif
#include <immintrin.h>
#endif

namespace mullion::cpu {
namespace {

constexpr int kScales = kChunk / kScaled;

void round_group(const float* x, int8_t* q, float* scale, float* sum) {
  float most = 0, bad = 0;
  for (int i = 0; i < kGroup; ++i) {
    most = std::max(most, std::abs(x[i]));
    bad += x[i] * 0;  // NaN where one is not finite
  }
  const float d = most / 127, r = d > 0 ? 1 / d : 0;
  const bool usable = bad == 0 && std::isfinite(r);  // a scale below 1 / FLT_MAX counts as 0
  for (int half = 0; half < 2; ++half) {
    int total = 0;
    for (int i = kScaled * half; i < kScaled * (half + 1); ++i) {
      const int value = usable ? static_cast<int>(std::lrintf(x[i] * r)) : 0;
      q[i] = static_cast<int8_t>(value);
      total += value;
    }
    scale[half] = d + bad;
    sum[half] = scale[half] * static_cast<float>(total);
  }
}

// One way of computing: Sum holds the partial sums of one row of x.
struct Portable {
  using Sum = float;
  static void add(const BlockGroups& w, GroupLayout layout, int groups, const RoundedChunk& x,
                  Sum& sum) {
    for (int s = 0; s < 2 * groups; ++s) {
      int dot = 0;
      for (int i = kScaled * s; i < kScaled * (s + 1); ++i)
        dot += (w.u[i] - layout.centre) * x.q[i];
      sum += w.scale[s] * x.scale[s] * static_cast<float>(dot);
      if (layout.has_minimum) sum -= w.minimum[s] * x.sum[s];
    }
  }
  static float total(Sum sum) { return sum; }
};

#if defined(__AVX2__) && defined(__FMA__)
struct Avx2 {
  struct Sum {
    __m256 v = _mm256_setzero_ps();
  };
  static void add(const BlockGroups& w, GroupLayout layout, int groups, const RoundedChunk& x,
                  Sum& sum) {
    const __m256i centre = _mm256_set1_epi16(static_cast<int16_t>(layout.centre));
    for (int g = 0; g < groups; ++g) {  // numbers of 16 bits: products of u and q exceed maddubs'
      const auto half = [&](int at) {
        const __m256i u =
            _mm256_cvtepu8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(w.u + at)));
        const __m256i q =
            _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(x.q + at)));
        return _mm256_madd_epi16(_mm256_sub_epi16(u, centre), q);
      };
      const __m256i low = half(kGroup * g), high = half(kGroup * g + kScaled);
      const __m256 p = _mm256_set1_ps(w.scale[2 * g] * x.scale[2 * g]);
      const __m256 r = _mm256_set1_ps(w.scale[2 * g + 1] * x.scale[2 * g + 1]);
      sum.v = _mm256_fmadd_ps(_mm256_cvtepi32_ps(low), p, sum.v);
      sum.v = _mm256_fmadd_ps(_mm256_cvtepi32_ps(high), r, sum.v);
    }
    if (!layout.has_minimum) return;
    for (int s = 0; s < kScales; s += 8)
      sum.v = _mm256_fnmadd_ps(_mm256_load_ps(w.minimum + s), _mm256_load_ps(x.sum + s), sum.v);
  }
  static float total(const Sum& sum) {
    alignas(32) float lanes[8];
    _mm256_store_ps(lanes, sum.v);
    float result = 0;
    for (const float lane : lanes) result += lane;
    return result;
  }
};
#endif

#if defined(__AVX512VNNI__) && defined(__AVX512F__)
// 64 elements an instruction: each lane of 32 bits is the sum of four, four lanes share a scale.
struct Vnni {
  struct Sum {
    __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
  };
  static void add(const BlockGroups& w, GroupLayout layout, int groups, const RoundedChunk& x,
                  Sum& sum) {
    const __m512 scales = _mm512_mul_ps(_mm512_load_ps(w.scale), _mm512_load_ps(x.scale));
    const __m512i lane = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    const __m512i centre = _mm512_set1_epi8(static_cast<char>(layout.centre));
    const auto part = [&](int j) {
      const __m512i q = _mm512_load_si512(x.q + 64 * j);
      __m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_load_si512(w.u + 64 * j), q);
      if (layout.centre)
        dot = _mm512_sub_epi32(dot, _mm512_dpbusd_epi32(_mm512_setzero_si512(), centre, q));
      const __m512i index = _mm512_add_epi32(lane, _mm512_set1_epi32(4 * j));
      __m512& to = j % 2 ? sum.odd : sum.even;
      to = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_permutexvar_ps(index, scales), to);
    };
    if (groups == 8) {
      part(0), part(1), part(2), part(3);
    } else {
      for (int j = 0; 2 * j < groups; ++j) part(j);
    }
    if (layout.has_minimum)
      sum.odd = _mm512_fnmadd_ps(_mm512_load_ps(w.minimum), _mm512_load_ps(x.sum), sum.odd);
  }
  static float total(const Sum& sum) {
    alignas(64) float lanes[16];
    _mm512_store_ps(lanes, _mm512_add_ps(sum.even, sum.odd));
    float result = 0;
    for (const float v : lanes) result += v;
    return result;
  }
};
#endif

template <typename How, int M>
void dots(StoredType type, const std::byte* row, int64_t width, const RoundedChunk* x, float* y,
          int64_t ldy) {
  const GroupLayout layout = group_layout(type);
  const StoredLayout& stored = layout_of(type);
  const auto chunk_bytes = static_cast<int64_t>(kChunk / stored.block * stored.block_bytes);
  const int64_t chunks = chunks_of(width);
  BlockGroups w{};
  typename How::Sum sums[M] = {};
  for (int64_t c = 0; c < chunks; ++c, row += chunk_bytes) {
    const int groups = static_cast<int>(std::min<int64_t>(kChunk, width - c * kChunk) / kGroup);
    unpack_groups(type, row, groups, w);
    for (int i = 0; i < M; ++i) How::add(w, layout, groups, x[i * chunks + c], sums[i]);
  }
  for (int i = 0; i < M; ++i) y[i * ldy] = How::total(sums[i]);
}

template <typename How>
void dots_of(StoredType type, const std::byte* row, int64_t width, const RoundedChunk* x, int m,
             float* y, int64_t ldy) {
  const int64_t chunks = chunks_of(width);
  for (; m > 0;) {
    const int take = m >= 4 ? 4 : m >= 2 ? 2 : 1;
    if (take == 4) dots<How, 4>(type, row, width, x, y, ldy);
    if (take == 2) dots<How, 2>(type, row, width, x, y, ldy);
    if (take == 1) dots<How, 1>(type, row, width, x, y, ldy);
    m -= take;
    x += take * chunks;
    y += take * ldy;
  }
}

}  // namespace

void round_row(const float* x, int64_t width, RoundedChunk* to) {
  for (int64_t done = 0; done < width; done += kChunk, ++to) {
    const int groups = static_cast<int>(std::min<int64_t>(kChunk, width - done) / kGroup);
    for (int g = 0; g < groups; ++g)
      round_group(x + done + kGroup * g, to->q + kGroup * g, to->scale + 2 * g, to->sum + 2 * g);
    std::memset(to->q + kGroup * groups, 0, static_cast<size_t>(kChunk - kGroup * groups));
    std::fill(to->scale + 2 * groups, to->scale + kScales, 0.0f);
    std::fill(to->sum + 2 * groups, to->sum + kScales, 0.0f);
  }
}

DotKind best_dot_kind() {
#if defined(__AVX512VNNI__) && defined(__AVX512F__)
  return DotKind::vnni;
#elif defined(__AVX2__) && defined(__FMA__)
  return DotKind::avx2;
#else
  return DotKind::portable;
#endif
}

void block_dots(DotKind kind, StoredType type, const std::byte* row, int64_t width,
                const RoundedChunk* x, int m, float* y, int64_t ldy) {
  switch (kind) {
#if defined(__AVX512VNNI__) && defined(__AVX512F__)
    case DotKind::vnni:
      return dots_of<Vnni>(type, row, width, x, m, y, ldy);
#endif
#if defined(__AVX2__) && defined(__FMA__)
    case DotKind::avx2:
      return dots_of<Avx2>(type, row, width, x, m, y, ldy);
#endif
    case DotKind::portable:
      return dots_of<Portable>(type, row, width, x, m, y, ldy);
    default:
      fail(Fault::other, "block_dots: instructions that this build has not");
  }
}

}  // namespace mullion::cpu
