// Sums over rows of contiguous elements, and sums over many rows into one, for the normalisations
// and the losses. All orders are fixed: no result depends on the number of threads.
#pragma once
#include <algorithm>
#include <vector>

#include "tensor/cpu/dispatch.h"
#include "tensor/cpu/vector_math.h"
#include "tensor/parallel.h"

namespace mullion::cpu {

// The sum over i in [0, n) of f(x[i]...), with four running registers. f gets packs; in the tail
// the missing lanes are 0 in every operand and f must give 0 for them.
template <typename T, typename F, typename... X>
inline T sum_over(int64_t n, F f, const X*... x) {
  using P = Pack<T>;
  constexpr int64_t lanes = P::kLanes;
  P s0 = P::Zero(), s1 = s0, s2 = s0, s3 = s0;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    s0 += f(P::load(x + i)...);
    s1 += f(P::load(x + i + lanes)...);
    s2 += f(P::load(x + i + 2 * lanes)...);
    s3 += f(P::load(x + i + 3 * lanes)...);
  }
  for (; i + lanes <= n; i += lanes) s0 += f(P::load(x + i)...);
  if (i < n) s1 += f(P::load(x + i, n - i)...);
  return ((s0 + s1) + (s2 + s3)).sum();
}

template <typename T>
inline T largest_of(const T* x, int64_t n) {
  using P = Pack<T>;
  constexpr int64_t lanes = P::kLanes;
  const T least = -std::numeric_limits<T>::infinity();
  P m0(least), m1(least);
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    m0 = max(P::load(x + i), m0);
    m1 = max(P::load(x + i + lanes), m1);
  }
  for (; i + lanes <= n; i += lanes) m0 = max(P::load(x + i), m0);
  if (i < n) m1 = max(P::load(x + i, n - i, least), m1);
  return max(m0, m1).largest();
}

// Splits `rows` into chunks of a fixed size, gives each chunk `sums` zeroed sums of `width` values
// to add to, body(first row, last row, its sums), and adds the chunks' sums in order into each
// non-null total[s].
template <typename T, typename Body>
void sum_over_rows(int64_t rows, int64_t width, const std::vector<T*>& total, Body body) {
  const int64_t count = static_cast<int64_t>(total.size());
  const int64_t chunk = std::max<int64_t>(32, (rows + 63) / 64);
  const int64_t chunks = std::max<int64_t>(1, (rows + chunk - 1) / chunk);
  std::vector<T> sums(static_cast<size_t>(chunks * count * width));
  parallel_for(chunks, rows_of_grain(width * std::min(rows, chunk), kMathGrain),
               [&](int64_t begin, int64_t end) {
                 for (int64_t c = begin; c < end; ++c)
                   body(c * chunk, std::min(rows, (c + 1) * chunk),
                        sums.data() + c * count * width);
               });
  for (int64_t s = 0; s < count; ++s) {
    if (!total[static_cast<size_t>(s)]) continue;
    for (int64_t i = 0; i < width; ++i) {
      double sum = 0;
      for (int64_t c = 0; c < chunks; ++c)
        sum += static_cast<double>(sums[static_cast<size_t>((c * count + s) * width + i)]);
      total[static_cast<size_t>(s)][i] = static_cast<T>(sum);
    }
  }
}

}  // namespace mullion::cpu
