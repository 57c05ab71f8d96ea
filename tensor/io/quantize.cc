// Compiled without fused multiply-adds (CMakeLists.txt): the bits are those of separate roundings.
#include "tensor/io/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tensor/check.h"
#include "tensor/io/block_bytes.h"
#include "tensor/io/k_blocks.h"
#include "tensor/parallel.h"

namespace mullion {
namespace {

constexpr int kBlock = 32;
constexpr uint64_t kPiece = uint64_t{1} << 16;  // elements a thread takes at a time

// 1 / d; 0 where all values are 0, or so small that f16 has no scale for them.
float reciprocal(float d) {
  const float r = d == 0 ? 0 : 1 / d;
  return std::isfinite(r) ? r : 0;
}

float of_largest_magnitude(const float* x) {
  return *std::max_element(x, x + kBlock,
                           [](float a, float b) { return std::abs(a) < std::abs(b); });
}

void q8_0_block(const float* x, std::byte* dst) {
  const float d = std::abs(of_largest_magnitude(x)) / 127;
  const float r = reciprocal(d);
  dst = put(dst, f16(d));
  for (int i = 0; i < kBlock; ++i) dst = put(dst, static_cast<int8_t>(std::round(x[i] * r)));
}

// Values below 2^bits as nibbles, low ones the first half; before them, with five bits, the fifth.
void pack(const uint8_t* q, int bits, std::byte* dst) {
  if (bits == 5) {
    uint32_t high = 0;
    for (int i = 0; i < kBlock; ++i) high |= static_cast<uint32_t>(q[i] >> 4) << i;
    dst = put(dst, high);
  }
  for (int i = 0; i < kBlock / 2; ++i)
    dst = put(dst, static_cast<uint8_t>((q[i] & 15) | (q[kBlock / 2 + i] & 15) << 4));
}

// Q4_0 and Q5_0: x = d (q - half).
void centred_block(const float* x, int bits, std::byte* dst) {
  const int half = 1 << (bits - 1), last = 2 * half - 1;
  const float d = of_largest_magnitude(x) / static_cast<float>(-half);
  const float r = reciprocal(d), middle = static_cast<float>(half) + 0.5f;
  uint8_t q[kBlock];
  for (int i = 0; i < kBlock; ++i)
    q[i] = static_cast<uint8_t>(std::min(static_cast<int>(x[i] * r + middle), last));
  pack(q, bits, put(dst, f16(d)));
}

// Q4_1 and Q5_1: x = d q + m.
void ranged_block(const float* x, int bits, std::byte* dst) {
  const int last = (1 << bits) - 1;
  const auto [low, high] = std::minmax_element(x, x + kBlock);
  const float m = *low, d = (*high - m) / static_cast<float>(last);
  const float r = reciprocal(d);
  uint8_t q[kBlock];
  for (int i = 0; i < kBlock; ++i)
    q[i] = static_cast<uint8_t>(std::min(static_cast<int>((x[i] - m) * r + 0.5f), last));
  pack(q, bits, put(put(dst, f16(d)), f16(m)));
}

template <typename T>
void round_to(const float* x, uint64_t count, std::byte* dst) {
  for (uint64_t i = 0; i < count; ++i) dst = put(dst, T(x[i]));
}

void block_from_f32(StoredType type, const float* x, std::byte* dst) {
  switch (type) {
    case StoredType::q8_0:
      return q8_0_block(x, dst);
    case StoredType::q4_0:
      return centred_block(x, 4, dst);
    case StoredType::q4_1:
      return ranged_block(x, 4, dst);
    case StoredType::q5_0:
      return centred_block(x, 5, dst);
    case StoredType::q5_1:
      return ranged_block(x, 5, dst);
    default:
      return k_block_from_f32(type, x, dst);
  }
}

}  // namespace

bool converts_from_f32(StoredType type) {
  return type == StoredType::f32 || type == StoredType::f16 || type == StoredType::bf16 ||
         (type >= StoredType::q4_0 && type <= StoredType::q8_0) || type == StoredType::q4_k ||
         type == StoredType::q5_k || type == StoredType::q6_k;
}

void from_f32(StoredType type, const float* src, uint64_t count, std::byte* dst) {
  CHECK(converts_from_f32(type), "no conversion of F32 to ", name_of(type));
  const StoredLayout& layout = layout_of(type);
  CHECK(count % layout.block == 0, "from_f32: ", count, " values are no whole number of ",
        layout.name, " blocks of ", layout.block);
  if (type == StoredType::f32) {
    if (count > 0) std::memcpy(dst, src, 4 * count);
  } else if (type == StoredType::f16) {
    round_to<f16>(src, count, dst);
  } else if (type == StoredType::bf16) {
    round_to<bf16>(src, count, dst);
  } else {
    for (uint64_t i = 0; i < count; i += layout.block, dst += layout.block_bytes)
      block_from_f32(type, src + i, dst);
  }
}

std::vector<std::byte> stored_as(const TensorSource& source, std::string_view name,
                                 StoredType type) {
  const TensorEntry& entry = source.at(name);
  const std::string what = concat(source.name(), ": ", name);
  const uint64_t row = entry.shape.empty() ? 1 : static_cast<uint64_t>(entry.shape.back());
  std::vector<std::byte> bytes(stored_bytes(type, entry.count, row, what));
  if (entry.type == type) {
    source.read_raw(name, bytes);
    return bytes;
  }
  std::vector<float> values(entry.count);
  source.read_f32(name, values.data());
  if (type == StoredType::f16)
    for (const float v : values)
      CHECK_AS(Fault::bad_file, std::abs(v) < 65520, what, ": has ", v,
               ", which F16 cannot hold; BF16 and F32 can");
  const StoredLayout& layout = layout_of(type);
  const auto pieces = static_cast<int64_t>((entry.count + kPiece - 1) / kPiece);
  parallel_items(pieces, [&](int64_t piece, int) {
    const uint64_t begin = static_cast<uint64_t>(piece) * kPiece;
    from_f32(type, values.data() + begin, std::min(kPiece, entry.count - begin),
             bytes.data() + begin / layout.block * layout.block_bytes);
  });
  return bytes;
}

}  // namespace mullion
