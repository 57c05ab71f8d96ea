// Small matrix products on operands that lie in the first or second cache:
//   c[m][n] (+)= sum_k a[m*a_row + k*a_step] * b[k*b_step + n]
// Vectors run along n; an element of `a` is broadcast, so `a` may be read along its rows or its
// columns and nothing is ever transposed. Up to 24 accumulators stay in registers.
#pragma once
#include "tensor/cpu/typed_simd.h"

namespace mullion::cpu {

template <typename T>
struct Product {
  const T* a;
  int64_t a_row, a_step;
  const T* b;
  int64_t b_step;
  T* c;
  int64_t c_row;
  int64_t rows, steps;
  bool accumulate;  // add to c instead of overwriting it
};

template <typename T, int kRows, int kVectors>
[[gnu::always_inline]] inline void micro_tile(const Product<T>& p, const T* a, T* c) {
  Vec<T> sum[kRows][kVectors];
  for (int m = 0; m < kRows; ++m)
    for (int v = 0; v < kVectors; ++v)
      sum[m][v] = p.accumulate ? load<T>(c + m * p.c_row + v * kLanes<T>) : Vec<T>{};
  const T* b = p.b;
  const int64_t a_row = p.a_row, a_step = p.a_step, b_step = p.b_step, steps = p.steps;
  for (int64_t k = 0; k < steps; ++k, a += a_step, b += b_step) {
    Vec<T> right[kVectors];
    for (int v = 0; v < kVectors; ++v) right[v] = load<T>(b + v * kLanes<T>);
    for (int m = 0; m < kRows; ++m) {
      const Vec<T> left = splat<T>(a[m * a_row]);
      for (int v = 0; v < kVectors; ++v) sum[m][v] += left * right[v];
    }
  }
  for (int m = 0; m < kRows; ++m)
    for (int v = 0; v < kVectors; ++v) store<T>(c + m * p.c_row + v * kLanes<T>, sum[m][v]);
}

// Rows in blocks that fill the registers, the rest in blocks of 4, 2, 1.
template <typename T, int kVectors>
[[gnu::noinline]] void micro_product(const Product<T>& p) {
  constexpr int kRows = kManyRegisters ? (kVectors == 4 ? 6 : 8) : (kVectors >= 3 ? 4 : 6);
  int64_t m = 0;
  for (; m + kRows <= p.rows; m += kRows)
    micro_tile<T, kRows, kVectors>(p, p.a + m * p.a_row, p.c + m * p.c_row);
  if constexpr (kRows > 4)
    if (m + 4 <= p.rows) {
      micro_tile<T, 4, kVectors>(p, p.a + m * p.a_row, p.c + m * p.c_row);
      m += 4;
    }
  if (m + 2 <= p.rows) {
    micro_tile<T, 2, kVectors>(p, p.a + m * p.a_row, p.c + m * p.c_row);
    m += 2;
  }
  for (; m < p.rows; ++m) micro_tile<T, 1, kVectors>(p, p.a + m * p.a_row, p.c + m * p.c_row);
}

// The same over any number of column vectors.
template <typename T>
void wide_product(Product<T> p, int64_t vectors) {
  while (vectors > 0) {
    const bool four = kManyRegisters && (vectors == 4 || vectors >= 7);
    const int64_t take = four ? 4 : vectors == 4 ? 2 : vectors > 3 ? 3 : vectors;
    if (take == 4) micro_product<T, 4>(p);
    if (take == 3) micro_product<T, 3>(p);
    if (take == 2) micro_product<T, 2>(p);
    if (take == 1) micro_product<T, 1>(p);
    p.b += take * kLanes<T>;
    p.c += take * kLanes<T>;
    vectors -= take;
  }
}

}  // namespace mullion::cpu
