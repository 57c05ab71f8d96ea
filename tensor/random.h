// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). Number `offset` of a stream is a function of (seed, stream, offset) alone, so
// order and threads do not matter, both devices draw the same numbers, and to resume is to store
// three integers. No std::random: its distributions differ between standard libraries.
#pragma once
#include <cmath>
#include <cstdint>

#include "tensor/host_device.h"

namespace mullion {

struct PhiloxBlock {
  uint32_t v[4];
};

// Numbers 4·block to 4·block + 3 of the stream: key = seed, counter = (block, stream).
MULLION_HD inline PhiloxBlock philox(uint64_t seed, uint64_t stream, uint64_t block) {
  uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32);
  uint32_t c2 = static_cast<uint32_t>(stream), c3 = static_cast<uint32_t>(stream >> 32);
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// A uniform number in [0, 1) on a grid of 2^-24, exact in f32.
MULLION_HD inline float uniform_from_bits(uint32_t bits) {
  return static_cast<float>(bits >> 8) * 0x1p-24f;
}

// Two standard normal numbers from two words (Box and Muller); the first is kept from zero.
MULLION_HD inline void normal_from_bits(uint32_t a, uint32_t b, float& x, float& y) {
  const float u = (static_cast<float>(a >> 8) + 0.5f) * 0x1p-24f;
  const float radius = sqrtf(-2.0f * logf(u));
  const float angle = 6.283185307179586f * uniform_from_bits(b);
  x = radius * cosf(angle);
  y = radius * sinf(angle);
}

// A standard normal number from a whole block, in double (Box and Muller): 53 bits for the radius,
// 53 for the angle. What the random kernels draw.
MULLION_HD inline double normal_from_block(const PhiloxBlock& block) {
  const uint64_t a = (uint64_t{block.v[0]} << 32 | block.v[1]) >> 11;
  const uint64_t b = (uint64_t{block.v[2]} << 32 | block.v[3]) >> 11;
  const double u = (static_cast<double>(a) + 0.5) * 0x1p-53;
  return std::sqrt(-2.0 * std::log(u)) *
         std::cos(6.283185307179586 * (static_cast<double>(b) * 0x1p-53));
}

// Joins words into the name of a stream, e.g. mix_bits(mix_bits(epoch, index), purpose); the
// finaliser of splitmix64, so that neighbours share nothing.
MULLION_HD inline uint64_t mix_bits(uint64_t a, uint64_t b) {
  uint64_t z = a * 0x9E3779B97F4A7C15u + b + 0xD1B54A32D192ED03u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// Draws numbers one after another. To fill a buffer call philox() block by block instead: next()
// computes a block of four for each number it returns.
struct Philox {
  uint64_t seed = 0, stream = 0, offset = 0;

  MULLION_HD uint32_t next() {
    const PhiloxBlock block = philox(seed, stream, offset >> 2);
    return block.v[offset++ & 3];
  }
  // [0, 1)
  MULLION_HD float uniform() { return uniform_from_bits(next()); }
  MULLION_HD float uniform(float low, float high) { return low + (high - low) * uniform(); }
  // An integer in [0, n); the bias is below n / 2^32.
  MULLION_HD uint32_t below(uint32_t n) {
    return static_cast<uint32_t>((uint64_t{next()} * n) >> 32);
  }
  MULLION_HD float normal() {
    const uint32_t a = next(), b = next();
    float x, y;
    normal_from_bits(a, b, x, y);
    return x;
  }
};

}  // namespace mullion
