// What every CPU kernel needs: the choice of the element type, and how much work is worth a thread.
#pragma once
#include "tensor/check.h"
#include "tensor/dtype.h"

namespace mullion::cpu {

// The least number of elements for which a second thread pays: a pass over memory, and a pass that
// computes exponentials.
constexpr int64_t kGrain = 32768;
constexpr int64_t kMathGrain = 8192;

// Rows of `width` elements that make up `grain` elements.
inline int64_t rows_of_grain(int64_t width, int64_t grain = kGrain) {
  return width >= grain ? 1 : grain / (width > 0 ? width : 1);
}

// Calls f(float{}) or f(double{}).
template <typename F>
void dispatch_float(const char* kernel, DType type, F f) {
  if (type == DType::f32) return f(float{});
  if (type == DType::f64) return f(double{});
  fail(Fault::usage, kernel, ": no kernel for type ", name_of(type), " on the cpu (f32, f64)");
}

// Calls f(T{}) for any element type.
template <typename F>
void dispatch_any(DType type, F f) {
  switch (type) {
    case DType::f32:
      return f(float{});
    case DType::bf16:
      return f(bf16{});
    case DType::f16:
      return f(f16{});
    case DType::f64:
      return f(double{});
    case DType::i32:
      return f(int32_t{});
    case DType::i64:
      return f(int64_t{});
    case DType::u8:
      return f(uint8_t{});
    case DType::boolean:
      return f(bool{});
  }
}

}  // namespace mullion::cpu
