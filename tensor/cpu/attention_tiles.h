// The pieces both attention kernels are made of. A *strip* is kStrip queries, one a vector lane, in
// the order token, head; a *key tile* is up to kTileKeys gathered rows of K and V. Scores are kept
// transposed, keys x lanes: then the softmax needs no sums across lanes, K and V are used as they
// lie (micro_product.h broadcasts their elements), and only the queries are transposed, once.
#pragma once
#include <algorithm>
#include <limits>

#include "tensor/cpu/attention_blocks.h"
#include "tensor/cpu/carver.h"
#include "tensor/cpu/micro_product.h"

namespace mullion::cpu {

inline constexpr int kStripVectors = 3;
inline constexpr int64_t kTileKeys = 128;
inline constexpr int64_t kKeysAhead = 16;  // of the copying of a key tile
inline constexpr int64_t kLineBytes = 64;
inline constexpr double kLog2E = 1.4426950408889634, kLn2 = 0.6931471805599453;
template <typename T>
inline constexpr int64_t kStrip = kStripVectors* kLanes<T>;
template <typename T>
inline constexpr T kMinusInfinity = -std::numeric_limits<T>::infinity();
template <typename T>
using LaneInt = std::remove_reference_t<decltype(typename Simd<T>::Int{}[0])>;

// Rows of one head lie far apart, where no hardware prefetcher finds the next one: a long sequence
// would wait for memory row by row.
template <typename T>
void prefetch_row(const T* row, int64_t D) {
  for (int64_t d = 0; d < D; d += kLineBytes / int64_t{sizeof(T)}) __builtin_prefetch(row + d, 0);
}
template <typename T>
void prefetch_row_to_write(T* row, int64_t D) {
  for (int64_t d = 0; d < D; d += kLineBytes / int64_t{sizeof(T)}) __builtin_prefetch(row + d, 1);
}

// The queries of one strip: where they stand and whose they are.
template <typename T>
struct StripLanes {
  int64_t lanes;            // used, the rest is zero
  int64_t lowest, highest;  // position of the first and of the last
  int64_t first_row;        // of the block's rows; row = token * heads + head
  LaneInt<T> position[kStrip<T>];
};

template <typename T>
StripLanes<T> strip_lanes(const QueryBlock& block, int64_t strip) {
  StripLanes<T> s{};
  const int64_t heads = block.group.heads, rows = (block.i1 - block.i0) * heads;
  s.first_row = strip * kStrip<T>;
  s.lanes = std::min(kStrip<T>, rows - s.first_row);
  for (int64_t lane = 0; lane < s.lanes; ++lane)
    s.position[lane] = static_cast<LaneInt<T>>(block.i0 + (s.first_row + lane) / heads);
  s.lowest = s.position[0];
  s.highest = s.position[s.lanes - 1];
  return s;
}

template <typename T>
int64_t strip_count(const QueryBlock& block) {
  return ((block.i1 - block.i0) * block.group.heads + kStrip<T> - 1) / kStrip<T>;
}

template <typename T>
struct KeyTile {
  T* k;  // kTileKeys x padded D
  T* v;
  int64_t count;
  bool partial;  // some of its pairs are known to visible() alone
  int64_t key[kTileKeys];
  LaneInt<T> from[kTileKeys];  // the first position that sees the key; ascending
};
template <typename T>
KeyTile<T>* take_tile(Carver& carver, int64_t D) {
  auto* tile = carver.take<KeyTile<T>>(1);
  T* k = carver.take<T>(kTileKeys * padded<T>(D));
  T* v = carver.take<T>(kTileKeys * padded<T>(D));
  if (tile) tile->k = k, tile->v = v;
  return tile;
}

// Steps through the keys that a block of queries sees, a tile at a time. Short ranges (the sinks,
// single keys) share a tile with what follows them.
template <typename T>
class KeyWalk {
 public:
  KeyWalk(const AttentionSizes& size, const QueryBlock& block, std::vector<KeyRange>& ranges)
      : ranges_(ranges) {
    key_ranges(*size.pattern, block.group.first_head, block.i0, block.i1, size.S, ranges_);
    if (!ranges_.empty()) key_ = ranges_[0].begin;
  }

  // `k` and `v` point at key 0 of the block's key head.
  bool next(const AttentionSizes& size, const T* k, int64_t k_step, const T* v, int64_t v_step,
            KeyTile<T>& tile) {
    tile.count = 0;
    tile.partial = false;
    const int64_t width = padded<T>(size.D);
    while (range_ < ranges_.size() && tile.count < kTileKeys) {
      const KeyRange& r = ranges_[range_];
      tile.partial |= r.rule == KeyRule::partial;
      const int64_t end = std::min(r.end, key_ + kTileKeys - tile.count);
      for (; key_ < end; ++key_, ++tile.count) {
        const int64_t ahead = std::min(key_ + kKeysAhead, r.end - 1);
        prefetch_row(k + ahead * k_step, size.D);
        prefetch_row(v + ahead * v_step, size.D);
        std::copy_n(k + key_ * k_step, size.D, tile.k + tile.count * width);
        std::copy_n(v + key_ * v_step, size.D, tile.v + tile.count * width);
        tile.key[tile.count] = key_;
        tile.from[tile.count] = static_cast<LaneInt<T>>(r.rule == KeyRule::all ? -1 : key_);
      }
      if (key_ == r.end && ++range_ < ranges_.size()) key_ = ranges_[range_].begin;
    }
    return tile.count > 0;
  }

 private:
  std::vector<KeyRange>& ranges_;
  size_t range_ = 0;
  int64_t key_ = 0;
};

// Of a tile's keys, which come ordered by `from`: how many some lane sees, and how many all see.
struct TileView {
  int64_t seen, clear;
};
template <typename T>
TileView tile_view(const KeyTile<T>& tile, const StripLanes<T>& s) {
  const auto upto = [&](int64_t position) {
    return std::upper_bound(tile.from, tile.from + tile.count, position) - tile.from;
  };
  return {upto(s.highest), tile.partial ? 0 : upto(s.lowest)};
}

// Scores of pairs that may not see each other become -infinity.
template <typename T>
void mask_scores(const AttentionPattern& pattern, const QueryBlock& block, const KeyTile<T>& tile,
                 const StripLanes<T>& s, TileView view, T* scores) {
  using Int = typename Simd<T>::Int;
  for (int64_t row = view.clear; row < view.seen; ++row) {
    T* line = scores + row * kStrip<T>;
    if (tile.partial) {
      for (int64_t lane = 0; lane < s.lanes; ++lane)
        if (!visible(pattern, block.group.first_head, s.position[lane], tile.key[row]))
          line[lane] = kMinusInfinity<T>;
      continue;
    }
    for (int v = 0; v < kStripVectors; ++v) {
      Int position;
      std::memcpy(&position, s.position + v * kLanes<T>, sizeof position);
      const Vec<T> score = load<T>(line + v * kLanes<T>);
      store<T>(line + v * kLanes<T>,
               position >= tile.from[row] ? score : splat<T>(kMinusInfinity<T>));
    }
  }
}

// Calls f(std::integral_constant<int, n>) for the number of vectors that `lanes` fill.
template <typename T, typename F>
void with_vectors(int64_t lanes, F&& f) {
  if (lanes > 2 * kLanes<T>)
    f(std::integral_constant<int, 3>{});
  else if (lanes > kLanes<T>)
    f(std::integral_constant<int, 2>{});
  else
    f(std::integral_constant<int, 1>{});
}

// The pointer to a row of a strided array.
template <typename T>
const T* row_of(const void* base, const AttentionStrides& stride, int64_t batch, int64_t token,
                int64_t head) {
  return static_cast<const T*>(base) + batch * stride.batch + token * stride.token +
         head * stride.head;
}
template <typename T>
T* row_of(void* base, const AttentionStrides& stride, int64_t batch, int64_t token, int64_t head) {
  return const_cast<T*>(row_of<T>(static_cast<const void*>(base), stride, batch, token, head));
}

// Writes a row of D elements into one lane of a D x kStrip block.
template <typename T>
void put_lane(const T* row, int64_t D, T factor, T* block, int64_t lane) {
  for (int64_t d = 0; d < D; ++d) block[d * kStrip<T> + lane] = row[d] * factor;
}
template <typename T>
void get_lane(const T* block, int64_t lane, int64_t D, T factor, T* row) {
  for (int64_t d = 0; d < D; ++d) row[d] = block[d * kStrip<T> + lane] * factor;
}

}  // namespace mullion::cpu
