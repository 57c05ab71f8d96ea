// y[o, i] = alpha * sum over r of x[o, r, i]. The reduced axis is cut into chunks of a fixed size,
// whose sums are added in order, the result in double: the bits do not depend on the threads, and
// the rounding error grows with the chunk rather than with the axis.
#include <algorithm>
#include <vector>

#include "tensor/cpu/dispatch.h"
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/pack.h"
#include "tensor/parallel.h"

namespace mullion::cpu {
namespace {

constexpr int64_t kChunk = 128;  // rows summed before the sums are added to the others

// Sum of a contiguous row by four registers.
template <typename T>
T row_sum(const T* x, int64_t n) {
  using P = Pack<T>;
  P s[4] = {P::Zero(), P::Zero(), P::Zero(), P::Zero()};
  int64_t i = 0;
  for (; i + 4 * P::kLanes <= n; i += 4 * P::kLanes)
    for (int j = 0; j < 4; ++j) s[j] += P::load(x + i + j * P::kLanes);
  for_packs<T>(
      i, n, [&](int64_t k) { s[0] += P::load(x + k); },
      [&](int64_t k, int64_t count) { s[1] += P::load(x + k, count); });
  return ((s[0] + s[1]) + (s[2] + s[3])).sum();
}

// y[i] = sum over `rows` rows of x[r, i], as many columns at a time as registers hold, so that rows
// are read as they lie.
template <typename T>
void column_sums(const T* x, int64_t rows, int64_t inner, T* y) {
  using P = Pack<T>;
  int64_t i = 0;
  const auto blocks = [&]<int N>(std::integral_constant<int, N>) {
    for (; i + N * P::kLanes <= inner; i += N * P::kLanes) {
      P s[N];
      for (int j = 0; j < N; ++j) s[j] = P::load(x + i + j * P::kLanes);
      for (int64_t r = 1; r < rows; ++r)
        for (int j = 0; j < N; ++j) s[j] += P::load(x + r * inner + i + j * P::kLanes);
      for (int j = 0; j < N; ++j) s[j].store(y + i + j * P::kLanes);
    }
  };
  blocks(std::integral_constant<int, 8>());
  blocks(std::integral_constant<int, 2>());
  for_packs<T>(
      i, inner,
      [&](int64_t k) {
        P s = P::load(x + k);
        for (int64_t r = 1; r < rows; ++r) s += P::load(x + r * inner + k);
        s.store(y + k);
      },
      [&](int64_t k, int64_t count) {
        P s = P::load(x + k, count);
        for (int64_t r = 1; r < rows; ++r) s += P::load(x + r * inner + k, count);
        s.store(y + k, count);
      });
}

template <typename T>
void sum_rows(const SumAxisArgs& args) {
  const auto* x = static_cast<const T*>(args.x);
  auto* y = static_cast<T*>(args.y);
  // A long row is cut as well, so that a single one still uses every thread.
  constexpr int64_t piece = kGrain;
  const int64_t n = args.reduced, pieces = std::max<int64_t>(1, (n + piece - 1) / piece);
  std::vector<double> sums(static_cast<size_t>(args.outer * pieces));
  parallel_for(args.outer * pieces, rows_of_grain(std::min(n, piece)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   const int64_t first = i % pieces * piece;
                   sums[static_cast<size_t>(i)] =
                       row_sum(x + i / pieces * n + first, std::min(piece, n - first));
                 }
               });
  for (int64_t o = 0; o < args.outer; ++o) {
    double sum = 0;
    for (int64_t p = 0; p < pieces; ++p) sum += sums[static_cast<size_t>(o * pieces + p)];
    y[o] = static_cast<T>(args.alpha * sum);
  }
}

template <typename T>
void sum_columns(const SumAxisArgs& args) {
  const auto* x = static_cast<const T*>(args.x);
  auto* y = static_cast<T*>(args.y);
  const int64_t n = args.reduced, inner = args.inner;
  const int64_t chunks = std::max<int64_t>(1, (n + kChunk - 1) / kChunk);
  std::vector<T> sums(static_cast<size_t>(args.outer * chunks * inner));
  parallel_for(args.outer * chunks, rows_of_grain(std::min(n, kChunk) * inner),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   const int64_t first = i % chunks * kChunk;
                   if (n > 0)
                     column_sums(x + (i / chunks * n + first) * inner, std::min(kChunk, n - first),
                                 inner, sums.data() + i * inner);
                 }
               });
  parallel_for(args.outer, rows_of_grain(chunks * inner), [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o)
      for (int64_t i = 0; i < inner; ++i) {
        double sum = 0;
        for (int64_t c = 0; c < chunks; ++c)
          sum += static_cast<double>(sums[static_cast<size_t>((o * chunks + c) * inner + i)]);
        y[o * inner + i] = static_cast<T>(args.alpha * sum);
      }
  });
}

}  // namespace

void sum_axis(const SumAxisArgs& args) {
  dispatch_float("sum_axis", args.dtype, [&](auto zero) {
    using T = decltype(zero);
    args.inner == 1 ? sum_rows<T>(args) : sum_columns<T>(args);
  });
}

}  // namespace mullion::cpu
