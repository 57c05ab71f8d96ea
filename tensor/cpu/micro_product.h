// Small matrix products on operands that lie in the first or second cache:
//   c[m][n] (+)= sum_k a[m][k] b[k][n],  or with a[k][m] for a left operand that is read transposed
// Vectors run along n; an element of `a` is broadcast, so nothing is ever transposed. Up to 24
// accumulators stay in registers.
#pragma once
#include "tensor/cpu/typed_simd.h"

namespace mullion::cpu {

enum class Left { plain, transposed };

template <typename T>
struct Product {
  const T* a;
  int64_t a_stride;  // from one row, as it lies, to the next; the same for b and c
  const T* b;
  int64_t b_stride;
  T* c;
  int64_t c_stride;
  int64_t rows, steps;  // of c; of the sum, at least one
};

// Rows [row, row + kRows) of c. The numbers of rows and vectors are known here and every stride is
// in a variable of its own: whatever else the compiler has to guess at costs it the registers.
template <Left kLeft, bool kAdd, typename T, int kRows, int kVectors>
[[gnu::always_inline]] inline void micro_tile(const Product<T>& p, int64_t row) {
  const int64_t a_stride = p.a_stride, b_stride = p.b_stride, c_stride = p.c_stride;
  const int64_t to_row = kLeft == Left::plain ? a_stride : 1;
  const int64_t to_step = kLeft == Left::plain ? 1 : a_stride;
  const T* a = p.a + row * to_row;
  const T* b = p.b;
  T* const c = p.c + row * c_stride;
  Vec<T> sum[kRows][kVectors];
  for (int m = 0; m < kRows; ++m)
    for (int v = 0; v < kVectors; ++v)
      sum[m][v] = kAdd ? load<T>(c + m * c_stride + v * kLanes<T>) : Vec<T>{};
  int64_t k = p.steps;
  do {
    Vec<T> right[kVectors];
    for (int v = 0; v < kVectors; ++v) right[v] = load<T>(b + v * kLanes<T>);
    for (int m = 0; m < kRows; ++m) {
      const Vec<T> left = splat<T>(a[m * to_row]);
      for (int v = 0; v < kVectors; ++v) sum[m][v] += left * right[v];
    }
    a += to_step;
    b += b_stride;
  } while (--k > 0);
  for (int m = 0; m < kRows; ++m)
    for (int v = 0; v < kVectors; ++v) store<T>(c + m * c_stride + v * kLanes<T>, sum[m][v]);
}

// Rows in blocks that fill the registers, the rest in blocks of 4, 2, 1.
template <Left kLeft, bool kAdd, int kVectors, typename T>
[[gnu::noinline]] void micro_product(const Product<T> p) {
  constexpr int kRows = kManyRegisters ? (kVectors == 4 ? 6 : 8) : (kVectors >= 3 ? 4 : 6);
  int64_t m = 0;
  for (; m + kRows <= p.rows; m += kRows) micro_tile<kLeft, kAdd, T, kRows, kVectors>(p, m);
  if constexpr (kRows > 4)
    if (m + 4 <= p.rows) micro_tile<kLeft, kAdd, T, 4, kVectors>(p, m), m += 4;
  if (m + 2 <= p.rows) micro_tile<kLeft, kAdd, T, 2, kVectors>(p, m), m += 2;
  for (; m < p.rows; ++m) micro_tile<kLeft, kAdd, T, 1, kVectors>(p, m);
}

// The same over any number of column vectors.
template <Left kLeft, bool kAdd, typename T>
void wide_product(Product<T> p, int64_t vectors) {
  while (vectors > 0) {
    const bool four = kManyRegisters && (vectors == 4 || vectors >= 7);
    const int64_t take = four ? 4 : vectors == 4 ? 2 : vectors > 3 ? 3 : vectors;
    if (take == 4) micro_product<kLeft, kAdd, 4>(p);
    if (take == 3) micro_product<kLeft, kAdd, 3>(p);
    if (take == 2) micro_product<kLeft, kAdd, 2>(p);
    if (take == 1) micro_product<kLeft, kAdd, 1>(p);
    p.b += take * kLanes<T>;
    p.c += take * kLanes<T>;
    vectors -= take;
  }
}

}  // namespace mullion::cpu
