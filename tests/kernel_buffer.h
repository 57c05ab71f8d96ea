// Memory for kernel tests: NaN inside, so that an element left unwritten shows, a guard on both
// sides, so that one written outside shows, and an odd start, so that nothing relies on alignment.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tensor/random.h"

namespace mullion::test {

template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t n)
      : n_(n), bytes_((static_cast<size_t>(n) + 2 * kGuard) * sizeof(T), kMark) {
    for (size_t i = kGuard * sizeof(T); i + kGuard * sizeof(T) < bytes_.size(); ++i)
      bytes_[i] = 0xff;
  }
  // Values in [low, high) drawn from a stream.
  Buffer(int64_t n, uint64_t stream, double low = -1, double high = 1) : Buffer(n) {
    Philox philox{7, stream};
    for (int64_t i = 0; i < n; ++i)
      data()[i] = static_cast<T>(low + (high - low) * double{philox.uniform()});
  }
  ~Buffer() {
    for (size_t i = 0; i < kGuard * sizeof(T); ++i) {
      EXPECT_EQ(bytes_[i], kMark) << "written before the start";
      EXPECT_EQ(bytes_[bytes_.size() - 1 - i], kMark) << "written past the end";
    }
  }
  Buffer(const Buffer&) = delete;
  Buffer(Buffer&&) = delete;

  T* data() { return reinterpret_cast<T*>(bytes_.data()) + kGuard; }
  T& operator[](int64_t i) { return data()[i]; }
  int64_t size() const { return n_; }
  std::vector<T> values() { return std::vector<T>(data(), data() + n_); }

 private:
  static constexpr size_t kGuard = 33;
  static constexpr unsigned char kMark = 0xa5;
  int64_t n_;
  std::vector<unsigned char> bytes_;
};

// |value - expected| <= tolerance * (1 + |expected|), with the place in the message.
inline void expect_close(double value, double expected, double tolerance, int64_t index) {
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(value)) << "at " << index;
    return;
  }
  if (value == expected) return;
  EXPECT_LE(std::abs(value - expected), tolerance * (1 + std::abs(expected)))
      << value << " instead of " << expected << " at " << index;
}

template <typename T>
constexpr double tolerance_of() {
  return sizeof(T) == 4 ? 1e-6 : 1e-13;
}

}  // namespace mullion::test
