// Walks over strided index spaces: axes that are adjacent in every operand are merged first, so
// that most calls end as one long row or as rows of unit stride.
#pragma once
#include <array>

#include "tensor/shape.h"

namespace mullion {

template <int K>
struct StridedSpace {
  int rank = 0;  // at least 1 once built; the last axis is the inner one
  std::array<int64_t, kMaxRank> size{};
  std::array<std::array<int64_t, kMaxRank>, K> stride{};

  int64_t inner() const { return size[at(rank - 1)]; }
  int64_t inner_stride(int k) const { return stride[at(k)][at(rank - 1)]; }
  int64_t rows() const {
    int64_t n = 1;
    for (int axis = 0; axis < rank - 1; ++axis) n *= size[at(axis)];
    return n;
  }
  static size_t at(int i) { return static_cast<size_t>(i); }
};

// The space of `shape` with one set of strides an operand; axes of size 1 vanish.
template <int K>
StridedSpace<K> merge_axes(const Shape& shape, const std::array<const Shape*, K>& strides) {
  StridedSpace<K> s;
  const auto at = StridedSpace<K>::at;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (shape[axis] == 1) continue;
    bool merges = s.rank > 0;
    for (int k = 0; k < K && merges; ++k)
      merges = s.stride[at(k)][at(s.rank - 1)] == (*strides[at(k)])[axis] * shape[axis];
    if (!merges) s.size[at(s.rank++)] = 1;
    s.size[at(s.rank - 1)] *= shape[axis];
    for (int k = 0; k < K; ++k) s.stride[at(k)][at(s.rank - 1)] = (*strides[at(k)])[axis];
  }
  if (s.rank == 0) s.size[at(s.rank++)] = 1;
  return s;
}

// Calls f(row, offsets of each operand) for rows [begin, end) of the space.
template <int K, typename F>
void for_rows(const StridedSpace<K>& s, int64_t begin, int64_t end, F f) {
  const auto at = StridedSpace<K>::at;
  std::array<int64_t, kMaxRank> index{};
  std::array<int64_t, K> offset{};
  int64_t rest = begin;
  for (int axis = s.rank - 2; axis >= 0; --axis) {
    index[at(axis)] = rest % s.size[at(axis)];
    rest /= s.size[at(axis)];
    for (int k = 0; k < K; ++k) offset[at(k)] += index[at(axis)] * s.stride[at(k)][at(axis)];
  }
  for (int64_t row = begin; row < end; ++row) {
    f(row, offset);
    for (int axis = s.rank - 2; axis >= 0; --axis) {
      for (int k = 0; k < K; ++k) offset[at(k)] += s.stride[at(k)][at(axis)];
      if (++index[at(axis)] < s.size[at(axis)]) break;
      for (int k = 0; k < K; ++k) offset[at(k)] -= s.size[at(axis)] * s.stride[at(k)][at(axis)];
      index[at(axis)] = 0;
    }
  }
}

}  // namespace mullion
