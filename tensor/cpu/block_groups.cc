// The bits are those of k_blocks.cc and stored_type.cc, which describe each type. Compiled without
// fused multiply-adds (CMakeLists.txt), as those are.
#include "tensor/cpu/block_groups.h"

#include <algorithm>
#include <cstring>

#include "tensor/io/block_bytes.h"

namespace mullion::cpu {
namespace {

typedef uint8_t Bytes16 __attribute__((vector_size(16)));
typedef uint8_t Bytes32 __attribute__((vector_size(32)));
typedef float Floats16 __attribute__((vector_size(64)));

typedef int16_t Shorts16 __attribute__((vector_size(32)));
typedef int32_t Ints16 __attribute__((vector_size(64)));

// In steps that double the width: GCC takes longer ones apart.
template <typename V>
[[gnu::always_inline]] inline Floats16 floats_of(V bytes) {
  const Shorts16 shorts = __builtin_convertvector(bytes, Shorts16);
  return __builtin_convertvector(__builtin_convertvector(shorts, Ints16), Floats16);
}

const uint8_t* bytes_at(const std::byte* src) { return reinterpret_cast<const uint8_t*>(src); }

template <typename V>
[[gnu::always_inline]] inline V vector_at(const void* src) {
  V v;
  std::memcpy(&v, src, sizeof v);
  return v;
}
template <typename V>
[[gnu::always_inline]] inline void store(uint8_t* to, V v) {
  std::memcpy(to, &v, sizeof v);
}

// 16 bytes of nibbles: the low ones are the first half of 32.
struct Halves {
  Bytes16 first, second;
  void store_to(uint8_t* u) const {
    store(u, first);
    store(u + 16, second);
  }
};
[[gnu::always_inline]] inline Halves nibbles(const std::byte* src) {
  const auto both = vector_at<Bytes16>(src);
  return {both & 15, both >> 4};
}

// v[places[0]], v[places[1]], ...
[[gnu::always_inline]] inline Bytes16 shuffled(Bytes16 v, Bytes16 places) {
#ifdef __clang__  // has none by a vector
  Bytes16 result{};
  for (size_t i = 0; i < sizeof v; ++i) result[i] = v[places[i]];
  return result;
#else
  return __builtin_shuffle(v, places);
#endif
}

// 16 where bit i of two bytes is set, for each of 16 elements; else 0.
[[gnu::always_inline]] inline Bytes16 fifth_bits(const std::byte* src) {
  constexpr Bytes16 kBit = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  constexpr Bytes16 kFrom = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
  const Bytes16 pair = {bytes_at(src)[0], bytes_at(src)[1]};
  const Bytes16 bits = shuffled(pair, kFrom) & kBit;
  return static_cast<Bytes16>(bits != 0) & 16;
}
[[gnu::always_inline]] inline Halves five_bits(const std::byte* high, const std::byte* low) {
  const Halves h = nibbles(low);
  return {h.first | fifth_bits(high), h.second | fifth_bits(high + 2)};
}

// Values of iq4's table plus 128.
[[gnu::always_inline]] inline Halves from_table(const std::byte* src) {
  constexpr Bytes16 kValues = {1,   24,  45,  63,  79,  93,  106, 118,
                               129, 141, 153, 166, 181, 197, 217, 241};
  const Halves h = nibbles(src);
  return {shuffled(kValues, h.first), shuffled(kValues, h.second)};
}

// d times eight bytes, each for two neighbouring places.
[[gnu::always_inline]] inline void store_twice(float* to, float d, uint64_t eight_bytes) {
  constexpr Bytes16 kPlaces = {0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7};
  Bytes16 bytes{};
  std::memcpy(&bytes, &eight_bytes, sizeof eight_bytes);
  const Floats16 scales = d * floats_of(shuffled(bytes, kPlaces));
  std::memcpy(to, &scales, sizeof scales);
}

// Types of 32 elements: one scale, and a minimum of the other sign where they have one.
[[gnu::always_inline]] inline void small_block(StoredType type, const std::byte* src, uint8_t* u,
                                               float& minimum) {
  switch (type) {
    case StoredType::q4_0:
      return nibbles(src + 2).store_to(u);
    case StoredType::q4_1:
      minimum = -load_f16(src + 2);
      return nibbles(src + 4).store_to(u);
    case StoredType::q5_0:
      return five_bits(src + 2, src + 6).store_to(u);
    case StoredType::q5_1:
      minimum = -load_f16(src + 2);
      return five_bits(src + 4, src + 8).store_to(u);
    case StoredType::q8_0:
      return store(u, vector_at<Bytes32>(src + 2) ^ 0x80);
    default:
      return from_table(src + 2).store_to(u);
  }
}

void small_blocks(StoredType type, const std::byte* src, int groups, BlockGroups& to) {
  const auto size = layout_of(type).block_bytes;
  const bool has_minimum = group_layout(type).has_minimum;
  for (int g = 0; g < groups; ++g, src += size) {
    float minimum = 0;
    small_block(type, src, to.u + kGroup * g, minimum);
    to.scale[2 * g] = to.scale[2 * g + 1] = load_f16(src);
    if (has_minimum) to.minimum[2 * g] = to.minimum[2 * g + 1] = minimum;
  }
  std::fill(to.scale + 2 * groups, to.scale + kChunk / kScaled, 0.0f);
  if (has_minimum) std::fill(to.minimum + 2 * groups, to.minimum + kChunk / kScaled, 0.0f);
}

void q2_block(const std::byte* src, BlockGroups& to) {
  const float d = load_f16(src + 80), m = load_f16(src + 82);
  const auto both = vector_at<Bytes16>(src);
  const Floats16 scale = d * floats_of(both & 15);
  const Floats16 minimum = m * floats_of(both >> 4);
  std::memcpy(to.scale, &scale, sizeof scale);
  std::memcpy(to.minimum, &minimum, sizeof minimum);
  for (int half = 0; half < 2; ++half) {
    const auto q = vector_at<Bytes32>(src + 16 + 32 * half);
    for (int g = 0; g < 4; ++g) store(to.u + 128 * half + 32 * g, (q >> (2 * g)) & 3);
  }
}

void q3_block(const std::byte* src, BlockGroups& to) {
  const uint8_t* packed = bytes_at(src) + 96;
  const float d = load_f16(src + 108);
  for (int j = 0; j < 16; ++j) {
    const int low = (packed[j % 8] >> (4 * (j / 8))) & 15;
    const int high = (packed[8 + j % 4] >> (2 * (j / 4))) & 3;
    to.scale[j] = d * static_cast<float>((low | high << 4) - 32);
  }
  const auto high = vector_at<Bytes32>(src);
  for (int half = 0; half < 2; ++half) {
    const auto low = vector_at<Bytes32>(src + 32 + 32 * half);
    for (int g = 0; g < 4; ++g)
      store(to.u + 128 * half + 32 * g, ((low >> (2 * g)) & 3) | ((high >> (4 * half + g)) & 1)
                                                                     << 2);
  }
}

// The 6 bits of eight scales and eight minima, a byte each, as scale_and_minimum() has them.
void q4_or_q5_block(const std::byte* src, const std::byte* high, const std::byte* q,
                    BlockGroups& to) {
  const float d = load_f16(src), m = load_f16(src + 2);
  const auto a = load<uint32_t>(src + 4), b = load<uint32_t>(src + 8), c = load<uint32_t>(src + 12);
  const uint32_t low_scales = a & 0x3f3f3f3f, low_minima = b & 0x3f3f3f3f;
  const uint32_t high_scales = (c & 0x0f0f0f0f) | ((a >> 6) & 0x03030303) << 4;
  const uint32_t high_minima = ((c >> 4) & 0x0f0f0f0f) | ((b >> 6) & 0x03030303) << 4;
  store_twice(to.scale, d, low_scales | uint64_t{high_scales} << 32);
  store_twice(to.minimum, m, low_minima | uint64_t{high_minima} << 32);
  const Bytes32 fifth = high ? vector_at<Bytes32>(high) : Bytes32{};
  for (int g = 0; g < 8; g += 2) {
    const auto both = vector_at<Bytes32>(q + 16 * g);
    store(to.u + 32 * g, (both & 15) | ((fifth >> g) & 1) << 4);
    store(to.u + 32 * g + 32, (both >> 4) | ((fifth >> (g + 1)) & 1) << 4);
  }
}

void q6_block(const std::byte* src, BlockGroups& to) {
  typedef int8_t Signed16 __attribute__((vector_size(16)));
  const float d = load_f16(src + 208);
  const Floats16 scale = d * floats_of(vector_at<Signed16>(src + 192));
  std::memcpy(to.scale, &scale, sizeof scale);
  for (int half = 0; half < 2; ++half) {
    const auto high = vector_at<Bytes32>(src + 128 + 32 * half);
    for (int g = 0; g < 2; ++g) {
      const auto low = vector_at<Bytes32>(src + 64 * half + 32 * g);
      uint8_t* u = to.u + 128 * half + 32 * g;
      store(u, (low & 15) | ((high >> (2 * g)) & 3) << 4);
      store(u + 64, (low >> 4) | ((high >> (2 * g + 4)) & 3) << 4);
    }
  }
}

void iq4_xs_block(const std::byte* src, BlockGroups& to) {
  const float d = load_f16(src);
  const int high = load<uint16_t>(src + 2);
  const uint8_t* b = bytes_at(src);
  for (int c = 0; c < 8; ++c) {
    const int low = (b[4 + c / 2] >> (4 * (c % 2))) & 15;
    const int scale = (low | ((high >> (2 * c)) & 3) << 4) - 32;
    to.scale[2 * c] = to.scale[2 * c + 1] = d * static_cast<float>(scale);
    from_table(src + 8 + 16 * c).store_to(to.u + 32 * c);
  }
}

constexpr int kRows = 16;  // transposed together

// Element (i, j) of a matrix of bytes to (j, i): the four bits of i and of j behind them, rotated
// by one bit four times.
[[gnu::always_inline]] inline void transpose(Bytes16 (&v)[kRows]) {
  for (int round = 0; round < 4; ++round) {
    Bytes16 w[kRows];
    for (int i = 0; i < kRows / 2; ++i) {
      w[2 * i] = __builtin_shufflevector(v[i], v[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21,
                                         6, 22, 7, 23);
      w[2 * i + 1] = __builtin_shufflevector(v[i], v[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28,
                                             13, 29, 14, 30, 15, 31);
    }
    std::memcpy(v, w, sizeof w);
  }
}

// 16 elements of each row, from number 16 s on.
[[gnu::always_inline]] inline void transpose_part(const BlockGroups (&w)[kRows], int s,
                                                  GroupLayout layout, float* y) {
  Bytes16 u[kRows];
  Floats16 scale{}, minimum{};
  for (int r = 0; r < kRows; ++r) {
    u[r] = vector_at<Bytes16>(w[r].u + kScaled * s);
    scale[r] = w[r].scale[s];
    minimum[r] = w[r].minimum[s];
  }
  transpose(u);
  const auto centre = static_cast<float>(layout.centre);
  for (int i = 0; i < kScaled; ++i, y += kPanelColumns) {
    Floats16 x = scale * (floats_of(u[i]) - centre);
    if (layout.has_minimum) x -= minimum;
    std::memcpy(y, &x, sizeof x);
  }
}

}  // namespace

GroupLayout group_layout(StoredType type) {
  switch (type) {
    case StoredType::q3_k:
      return {4, false};
    case StoredType::q4_0:
      return {8, false};
    case StoredType::q5_0:
      return {16, false};
    case StoredType::q6_k:
      return {32, false};
    case StoredType::q8_0:
    case StoredType::iq4_nl:
    case StoredType::iq4_xs:
      return {128, false};
    default:
      return {0, true};
  }
}

void unpack_groups(StoredType type, const std::byte* src, int groups, BlockGroups& to) {
  switch (type) {
    case StoredType::q2_k:
      return q2_block(src, to);
    case StoredType::q3_k:
      return q3_block(src, to);
    case StoredType::q4_k:
      return q4_or_q5_block(src, nullptr, src + 16, to);
    case StoredType::q5_k:
      return q4_or_q5_block(src, src + 16, src + 48, to);
    case StoredType::q6_k:
      return q6_block(src, to);
    case StoredType::iq4_xs:
      return iq4_xs_block(src, to);
    default:
      return small_blocks(type, src, groups, to);
  }
}

void widen_blocks(StoredType type, const std::byte* src, int64_t n, float* y) {
  const StoredLayout& stored = layout_of(type);
  const auto chunk_bytes = static_cast<int64_t>(kChunk / stored.block * stored.block_bytes);
  const GroupLayout layout = group_layout(type);
  BlockGroups w;
  for (int64_t done = 0; done < n; done += kChunk, src += chunk_bytes) {
    const int scaled = static_cast<int>(std::min<int64_t>(kChunk, n - done) / kScaled);
    unpack_groups(type, src, scaled * kScaled / kGroup, w);
    for (int s = 0; s < scaled; ++s, y += kScaled)
      for (int i = 0; i < kScaled; ++i) {
        const float x = w.scale[s] * static_cast<float>(w.u[kScaled * s + i] - layout.centre);
        y[i] = layout.has_minimum ? x - w.minimum[s] : x;
      }
  }
}

void widen_transposed(StoredType type, const std::byte* src, int64_t row_bytes, int64_t rows,
                      int64_t n, float* y) {
  const StoredLayout& stored = layout_of(type);
  const auto chunk_bytes = static_cast<int64_t>(kChunk / stored.block * stored.block_bytes);
  const GroupLayout layout = group_layout(type);
  BlockGroups w[kRows] = {};
  for (int64_t first = 0; first < rows; first += kRows, src += kRows * row_bytes) {
    const auto here = static_cast<int>(std::min<int64_t>(kRows, rows - first));
    std::fill(w + here, w + kRows, BlockGroups{});
    for (int64_t done = 0; done < n; done += kChunk) {
      const int parts = static_cast<int>(std::min<int64_t>(kChunk, n - done) / kScaled);
      for (int r = 0; r < here; ++r)
        unpack_groups(type, src + r * row_bytes + done / kChunk * chunk_bytes, parts / 2, w[r]);
      for (int s = 0; s < parts; ++s)
        transpose_part(w, s, layout, y + (done + kScaled * s) * kPanelColumns + first);
    }
  }
}

}  // namespace mullion::cpu
