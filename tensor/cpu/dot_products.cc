// Dot products of blocks of 4 x 4 rows: 16 running registers, 8 loads for 16 multiply-adds. The
// longer side is split over the threads. Where A has few rows, those of B are streamed past four of
// them at a time, and stay in cache for the next four: a row vector goes at the speed of memory.
#include "tensor/cpu/dot_products.h"

#include <algorithm>

#include "tensor/cpu/dispatch.h"
#include "tensor/cpu/pack.h"
#include "tensor/parallel.h"

namespace mullion::cpu {
namespace {

using P = Pack<float>;
constexpr int kSide = 4;
constexpr int64_t kTileFloats = 1 << 16;  // of B, within the second-level cache

// Writes one element of C from its dot product.
template <typename B>
void finish(const DotProducts<B>& p, int64_t i, int64_t j, float dot) {
  float& target = p.c[i * p.ldc + j];
  float value = p.alpha * dot;
  if (p.beta != 0) value += p.beta * target;
  target = p.bias ? value + p.bias[j] : value;
}

template <int M, int J, typename B>
void block(const DotProducts<B>& p, int64_t i, int64_t j) {
  const float* a = p.a + i * p.lda;
  const B* b = p.b + j * p.ldb;
  P sum[M][J];
  for (auto& row : sum)
    for (P& s : row) s = P::Zero();
  const auto add = [&](const P(&x)[M], const P(&y)[J]) {
    for (int r = 0; r < M; ++r)
      for (int c = 0; c < J; ++c) sum[r][c] += x[r] * y[c];
  };
  for_packs<float>(
      0, p.k,
      [&](int64_t q) {
        P x[M], y[J];
        for (int r = 0; r < M; ++r) x[r] = P::load(a + r * p.lda + q);
        for (int c = 0; c < J; ++c) y[c] = P::load(b + c * p.ldb + q);
        add(x, y);
      },
      [&](int64_t q, int64_t count) {
        P x[M], y[J];
        for (int r = 0; r < M; ++r) x[r] = P::load(a + r * p.lda + q, count);
        for (int c = 0; c < J; ++c) y[c] = P::load(b + c * p.ldb + q, count);
        add(x, y);
      });
  for (int r = 0; r < M; ++r)
    for (int c = 0; c < J; ++c) finish(p, i + r, j + c, sum[r][c].sum());
}

template <int M, typename B>
void rows(const DotProducts<B>& p, int64_t i, int64_t j0, int64_t j1) {
  int64_t j = j0;
  for (; j + kSide <= j1; j += kSide) block<M, kSide>(p, i, j);
  switch (j1 - j) {
    case 3:
      return block<M, 3>(p, i, j);
    case 2:
      return block<M, 2>(p, i, j);
    case 1:
      return block<M, 1>(p, i, j);
  }
}

template <typename B>
void part(const DotProducts<B>& p, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  int64_t i = i0;
  for (; i + kSide <= i1; i += kSide) rows<kSide>(p, i, j0, j1);
  switch (i1 - i) {
    case 3:
      return rows<3>(p, i, j0, j1);
    case 2:
      return rows<2>(p, i, j0, j1);
    case 1:
      return rows<1>(p, i, j0, j1);
  }
}

// A few rows of A times rows of B one after another: B is read in the order of memory, as the
// hardware's prefetch likes it, with several registers along k to hide the latency of the sums.
template <int M, typename B>
void stream(const DotProducts<B>& p, int64_t j0, int64_t j1) {
  constexpr int kUnroll = M == 1 ? 4 : M == 2 ? 2 : 1;
  constexpr int64_t kStep = kUnroll * P::kLanes;
  for (int64_t j = j0; j < j1; ++j) {
    const B* b = p.b + j * p.ldb;
    P sum[M][kUnroll];
    for (auto& row : sum)
      for (P& s : row) s = P::Zero();
    int64_t q = 0;
    for (; q + kStep <= p.k; q += kStep)
      for (int u = 0; u < kUnroll; ++u) {
        const int64_t at = q + u * P::kLanes;
        const P y = P::load(b + at);
        for (int r = 0; r < M; ++r) sum[r][u] += P::load(p.a + r * p.lda + at) * y;
      }
    for_packs<float>(
        q, p.k,
        [&](int64_t at) {
          const P y = P::load(b + at);
          for (int r = 0; r < M; ++r) sum[r][0] += P::load(p.a + r * p.lda + at) * y;
        },
        [&](int64_t at, int64_t count) {
          const P y = P::load(b + at, count);
          for (int r = 0; r < M; ++r) sum[r][0] += P::load(p.a + r * p.lda + at, count) * y;
        });
    for (int r = 0; r < M; ++r) {
      P total = sum[r][0];
      for (int u = 1; u < kUnroll; ++u) total += sum[r][u];
      finish(p, r, j, total.sum());
    }
  }
}

// The product of at most kSide rows of A, from row i on.
template <typename B>
DotProducts<B> rows_from(DotProducts<B> p, int64_t i) {
  p.a += i * p.lda;
  p.c += i * p.ldc;
  p.m = std::min<int64_t>(kSide, p.m - i);
  return p;
}

template <typename B>
void stream_rows(const DotProducts<B>& p, int64_t j0, int64_t j1) {
  switch (p.m) {
    case 1:
      return stream<1>(p, j0, j1);
    case 2:
      return stream<2>(p, j0, j1);
    case 3:
      return stream<3>(p, j0, j1);
    case 4:
      return stream<4>(p, j0, j1);
  }
}

// By columns of C where A has few rows, whatever their number: stream() takes columns.
template <typename B>
void split(const DotProducts<B>& p) {
  const bool by_rows = p.m > kSide && p.m > p.n;
  const int64_t size = by_rows ? p.m : p.n, other = by_rows ? p.n : p.m;
  const int64_t units = (size + kSide - 1) / kSide;
  const int64_t grain = rows_of_grain(p.k * kSide * std::max<int64_t>(1, other / kSide));
  parallel_for(units, grain, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kSide, last = std::min(size, end * kSide);
    if (by_rows) return part(p, first, last, 0, p.n);
    // Rows of B that stay in cache while all rows of A pass over them, four at a time.
    const int64_t tile = std::max<int64_t>(1, kTileFloats / (p.k * kSide + 1)) * kSide;
    for (int64_t j = first; j < last; j += tile)
      for (int64_t i = 0; i < p.m; i += kSide)
        stream_rows(rows_from(p, i), j, std::min(last, j + tile));
  });
}

}  // namespace

void dot_products(const DotProducts<float>& p) { split(p); }
void dot_products(const DotProducts<bf16>& p) { split(p); }

}  // namespace mullion::cpu
