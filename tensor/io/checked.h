// Arithmetic on sizes that came out of a file: an overflow is an error of that file, never a wrap.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "tensor/check.h"

namespace mullion {

inline uint64_t checked_add(uint64_t a, uint64_t b, const std::string& what) {
  uint64_t sum = 0;
  CHECK_AS(Fault::bad_file, !__builtin_add_overflow(a, b, &sum), what, ": ", a, " + ", b,
           " overflows");
  return sum;
}

inline uint64_t checked_multiply(uint64_t a, uint64_t b, const std::string& what) {
  uint64_t product = 0;
  CHECK_AS(Fault::bad_file, !__builtin_mul_overflow(a, b, &product), what, ": ", a, " x ", b,
           " overflows");
  return product;
}

// `value` rounded up to a multiple of `step` > 0.
inline uint64_t checked_round_up(uint64_t value, uint64_t step, const std::string& what) {
  const uint64_t rest = value % step;
  return rest == 0 ? value : checked_add(value, step - rest, what);
}

// The number of elements of a shape; 1 for a scalar. At most 2^63 - 1.
inline uint64_t checked_count(std::span<const int64_t> shape, const std::string& what) {
  uint64_t count = 1;
  for (const int64_t size : shape) {
    count = checked_multiply(count, static_cast<uint64_t>(size), what);
  }
  CHECK_AS(Fault::bad_file, count <= static_cast<uint64_t>(INT64_MAX), what, ": ", count,
           " elements");
  return count;
}

}  // namespace mullion
