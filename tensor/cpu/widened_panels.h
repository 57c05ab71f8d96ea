// Products with a B that is stored narrower than it is computed with: panels of B that stay in the
// second-level cache are widened and multiplied by gemm(), each thread on its own columns of C.
#pragma once
#include <algorithm>

#include "tensor/cpu/gemm.h"
#include "tensor/parallel.h"
#include "tensor/scratch.h"

namespace mullion::cpu {

constexpr int kPanelSlot = 6;                // of thread_scratch()
constexpr int64_t kPanelElements = 1 << 19;  // of B in one panel: each repacks A
constexpr int64_t kPanelDepth = 1536;        // its inner size at most; a multiple of a block's 256

// p.b is not read: widen(row, column, length, target) writes so much of a row of B as it is stored.
// Columns of C are taken in multiples of `unit`, which divides p.n; finish(first, columns) follows
// for those that are done. k is at least 1.
template <typename T, typename Widen, typename Finish>
void multiply_widened(const Gemm<T>& p, int64_t unit, Widen widen, Finish finish) {
  const int64_t deep = std::min(p.k, kPanelDepth);
  const int64_t wide = std::max(unit, kPanelElements / deep / unit * unit);
  const auto panel = [&](int64_t n0, int64_t columns, int64_t k0, int64_t depth) {
    const int64_t rows = p.transpose_b ? columns : depth, length = p.transpose_b ? depth : columns;
    const int64_t row = p.transpose_b ? n0 : k0, column = p.transpose_b ? k0 : n0;
    auto* target = reinterpret_cast<T*>(thread_scratch(
        static_cast<size_t>(rows * length) * (sizeof(T) / sizeof(float)), kPanelSlot));
    for (int64_t r = 0; r < rows; ++r) widen(row + r, column, length, target + r * length);
    Gemm<T> part = p;
    part.n = columns;
    part.k = depth;
    part.a += p.transpose_a ? k0 * p.lda : k0;
    part.b = target;
    part.ldb = length;
    part.c += n0;
    if (k0 > 0) part.beta = 1;
    gemm(part);
  };
  const double work = static_cast<double>(p.m) * static_cast<double>(p.k * unit);
  const auto grain = static_cast<int64_t>(1 + 1e6 / work);
  parallel_for(p.n / unit, grain, [&](int64_t begin, int64_t end) {
    for (int64_t n0 = begin * unit; n0 < end * unit; n0 += wide) {
      const int64_t columns = std::min(wide, end * unit - n0);
      for (int64_t k0 = 0; k0 < p.k; k0 += deep) panel(n0, columns, k0, std::min(deep, p.k - k0));
      finish(n0, columns);
    }
  });
}

}  // namespace mullion::cpu
