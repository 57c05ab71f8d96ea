// Counter-based random numbers (Philox4x32-10; Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). A number is a pure function of (seed, stream, offset): the same on every
// device and for any number of threads, and resuming needs three integers, not a generator's state.
#pragma once
#include <array>
#include <cmath>
#include <cstdint>

namespace mullion {

// The four 32-bit words that belong to one counter value.
inline std::array<uint32_t, 4> philox4x32(uint64_t seed, uint64_t stream, uint64_t counter) {
  std::array<uint32_t, 4> c = {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32),
                               static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)};
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c[0], p1 = uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

// A walk along one stream: word number `offset` and those after it.
class Philox {
 public:
  explicit Philox(uint64_t seed, uint64_t stream = 0, uint64_t offset = 0)
      : seed_(seed), stream_(stream), offset_(offset) {}

  uint32_t next() {
    const uint64_t counter = offset_ / 4;
    if (offset_ % 4 == 0 || counter != block_counter_) {
      block_ = philox4x32(seed_, stream_, counter);
      block_counter_ = counter;
    }
    return block_[offset_++ % 4];
  }
  // Uniform in [0, 1), a multiple of 2^-24.
  float uniform() { return static_cast<float>(next() >> 8) * 0x1p-24f; }
  // Uniform in [0, 1), a multiple of 2^-53.
  double uniform_double() {
    const uint64_t high = next();
    return static_cast<double>(((high << 32) | next()) >> 11) * 0x1p-53;
  }
  // Uniform in {0, ..., n - 1}; n >= 1. By 64-bit multiplication: a bias below 2^-32 * n.
  uint64_t below(uint64_t n) {
    const uint64_t high = next();
    const uint64_t word = (high << 32) | next();
    return static_cast<uint64_t>((static_cast<unsigned __int128>(word) * n) >> 64);
  }
  // Standard normal, by the method of Box and Muller.
  float normal() {
    const double u = 1.0 - uniform_double(), angle = 6.283185307179586 * uniform_double();
    return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(angle));
  }
  uint64_t offset() const { return offset_; }

 private:
  uint64_t seed_, stream_, offset_;
  uint64_t block_counter_ = ~uint64_t{0};
  std::array<uint32_t, 4> block_{};
};

// A stream number for a purpose made of several integers, e.g. (epoch, sample, which augmentation).
inline uint64_t mix_stream(uint64_t a, uint64_t b = 0, uint64_t c = 0) {
  uint64_t h = 0x9E3779B97F4A7C15u;
  for (uint64_t part : {a, b, c}) {
    h ^= part + 0x9E3779B97F4A7C15u + (h << 6) + (h >> 2);
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9u;
    h = (h ^ (h >> 27)) * 0x94D049BB133111EBu;
    h ^= h >> 31;
  }
  return h;
}

}  // namespace mullion
