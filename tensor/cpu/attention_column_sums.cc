// Column sums of the probabilities: sums[j] = sum_i 2^(s_ij - lse_i), s = q k scale log2 e. A work
// item is a chunk of the keys of one head group and goes through its queries in order, so that no
// two items add to one number and nothing of size queries x keys exists.
#include "tensor/cpu/attention_column_sums.h"

#include "tensor/cpu/attention_tiles.h"
#include "tensor/cpu/carver.h"
#include "tensor/parallel.h"

namespace mullion::cpu {
namespace {

constexpr int64_t kChunkKeys = 4 * kTileKeys, kBlockRows = 768;

template <typename T>
class ColumnSums {
 public:
  // The keys from `begin` on, kChunkKeys at most.
  ColumnSums(const AttentionForwardArgs& args, const HeadGroup& group, int64_t begin)
      : args_(args),
        size_(args.size),
        group_(group),
        begin_(begin),
        end_(std::min(begin + kChunkKeys, args.size.S)),
        rows_(strips_of_block() * kStrip<T>) {
    carve_scratch([this](Carver& c) { carve(c); });
  }

  void run() {
    for (int64_t h = 0; h < group_.heads; ++h) std::fill(sums(h) + begin_, sums(h) + end_, T(0));
    std::vector<QueryBlock> blocks;
    append_blocks(size_, group_, size_.query_offset + args_.sums_from, size_.query_offset + size_.T,
                  rows_, blocks);
    for (const QueryBlock& block : blocks) add_block(block);
  }

 private:
  // So many rows that a block of one token fits.
  int64_t strips_of_block() const {
    return (std::max(kBlockRows, group_.heads) + kStrip<T> - 1) / kStrip<T>;
  }
  T* sums(int64_t h) const {
    return static_cast<T*>(args_.column_sums) +
           (group_.batch * size_.H + group_.first_head + h) * size_.S;
  }

  void carve(Carver& c) {
    tile_ = c.take<KeyTile<T>>(1);
    T* const k = c.take<T>(kTileKeys * padded<T>(size_.D));
    if (tile_) tile_->k = k;
    scores_ = c.take<T>(kTileKeys * kStrip<T>);
    lanes_ = c.take<T>(kTileKeys * kStrip<T>);
    q_ = c.take<T>(rows_ * size_.D);
    lse_ = c.take<T>(rows_);
  }

  void add_block(const QueryBlock& block) {
    std::vector<KeyRange> ranges;
    key_ranges(*size_.pattern, group_.first_head, block.i0, block.i1, size_.S, ranges);
    std::erase_if(ranges, [&](KeyRange& r) {
      r.begin = std::max(r.begin, begin_);
      r.end = std::min(r.end, end_);
      return r.begin >= r.end;
    });
    if (ranges.empty()) return;
    const int64_t strips = strip_count<T>(block);
    for (int64_t i = 0; i < strips; ++i) load_strip(block, i);
    size_t range = 0;
    while (fill_tile(ranges, range)) add_tile(block, strips);
  }

  // Queries times scale * log2 e, and their log-sum-exp in powers of two: +infinity where a lane
  // is not used or has seen nothing, so that its probabilities are zero.
  void load_strip(const QueryBlock& block, int64_t strip) {
    const StripLanes<T> s = strip_lanes<T>(block, strip);
    T* const q = q_ + strip * kStrip<T> * size_.D;
    std::fill_n(q, size_.D * kStrip<T>, T(0));
    for (int64_t lane = 0; lane < kStrip<T>; ++lane) {
      T& lse = lse_[strip * kStrip<T> + lane];
      lse = -kMinusInfinity<T>;
      if (lane >= s.lanes) continue;
      const int64_t head = group_.first_head + (s.first_row + lane) % group_.heads;
      const int64_t token = s.position[lane] - size_.query_offset;
      put_lane(row_of<T>(args_.q, args_.q_stride, group_.batch, token, head), size_.D,
               static_cast<T>(size_.scale * kLog2E), q, lane);
      const int64_t row = output_row(*size_.pattern, head, s.position[lane]) - size_.query_offset;
      const T found =
          static_cast<const T*>(args_.lse)[(group_.batch * size_.H + head) * size_.T + row];
      if (found > kMinusInfinity<T>) lse = found * static_cast<T>(kLog2E);
    }
  }

  bool fill_tile(std::vector<KeyRange>& ranges, size_t& range) {
    const T* const k = row_of<T>(args_.k, args_.k_stride, group_.batch, 0, group_.kv_head);
    tile_->count = 0;
    tile_->partial = false;
    for (; range < ranges.size() && tile_->count < kTileKeys; ++range) {
      KeyRange& r = ranges[range];
      tile_->partial |= r.rule == KeyRule::partial;
      for (; r.begin < r.end && tile_->count < kTileKeys; ++r.begin, ++tile_->count) {
        std::copy_n(k + r.begin * args_.k_stride.token, size_.D,
                    tile_->k + tile_->count * padded<T>(size_.D));
        tile_->key[tile_->count] = r.begin;
        tile_->from[tile_->count] = static_cast<LaneInt<T>>(r.rule == KeyRule::all ? -1 : r.begin);
      }
      if (r.begin < r.end) break;
    }
    return tile_->count > 0;
  }

  void add_tile(const QueryBlock& block, int64_t strips) {
    // Lane by lane as long as a lane belongs to the same head in every strip.
    const bool aligned = kStrip<T> % group_.heads == 0;
    std::fill_n(lanes_, kTileKeys * kStrip<T>, T(0));
    for (int64_t i = 0; i < strips; ++i) {
      const StripLanes<T> s = strip_lanes<T>(block, i);
      const TileView view = tile_view(*tile_, s);
      if (view.seen > 0) {
        micro_product<Left::plain, false, kStripVectors, T>(
            {tile_->k, padded<T>(size_.D), q_ + i * kStrip<T> * size_.D, kStrip<T>, scores_,
             kStrip<T>, view.seen, size_.D});
        mask_scores(*size_.pattern, block, *tile_, s, view, scores_);
        add_probabilities(lse_ + i * kStrip<T>, view.seen);
      }
      if (!aligned || i + 1 == strips) add_lanes(aligned ? 0 : s.first_row);
    }
  }

  void add_probabilities(const T* lse, int64_t keys) {
    for (int64_t key = 0; key < keys; ++key)
      for (int v = 0; v < kStripVectors; ++v) {
        const int64_t at = key * kStrip<T> + v * kLanes<T>;
        const Vec<T> p = exp2_of(load<T>(scores_ + at) - load<T>(lse + v * kLanes<T>));
        store<T>(lanes_ + at, load<T>(lanes_ + at) + p);
      }
  }

  void add_lanes(int64_t first_row) {
    for (int64_t key = 0; key < tile_->count; ++key)
      for (int64_t lane = 0; lane < kStrip<T>; ++lane)
        sums((first_row + lane) % group_.heads)[tile_->key[key]] += lanes_[key * kStrip<T> + lane];
    std::fill_n(lanes_, kTileKeys * kStrip<T>, T(0));
  }

  const AttentionForwardArgs& args_;
  const AttentionSizes& size_;
  const HeadGroup& group_;
  const int64_t begin_, end_, rows_;
  KeyTile<T>* tile_;
  T *scores_, *lanes_, *q_, *lse_;
};

}  // namespace

template <typename T>
void attention_column_sums(const AttentionForwardArgs& args) {
  const std::vector<HeadGroup> groups = head_groups(args.size);
  const int64_t chunks = (args.size.S + kChunkKeys - 1) / kChunkKeys;
  parallel_items(static_cast<int64_t>(groups.size()) * chunks, [&](int64_t i, int) {
    ColumnSums<T>(args, groups[static_cast<size_t>(i / chunks)], i % chunks * kChunkKeys).run();
  });
}
template void attention_column_sums<float>(const AttentionForwardArgs&);
template void attention_column_sums<double>(const AttentionForwardArgs&);

}  // namespace mullion::cpu
