// Attention forward: for each strip of queries, online softmax over the key tiles it sees
//   m' = max(m, s), l' = l 2^(m-m') + sum 2^(s-m'), o' = o 2^(m-m') + 2^(s-m') v,  s = q k scale
//   log2 e
// (Milakov and Gimelshein 2018; FlashAttention 2022). Work items are blocks of queries; a row's
// result is the same however its block is cut.
#include "tensor/cpu/attention.h"

#include "tensor/cpu/attention_column_sums.h"
#include "tensor/cpu/attention_decode.h"
#include "tensor/cpu/attention_tiles.h"
#include "tensor/parallel.h"

namespace mullion::cpu {

namespace {

constexpr int64_t kForwardRows = 768;  // q and o of a block fill a quarter of the second cache

template <typename T>
struct ForwardState {  // of one strip
  StripLanes<T> where;
  T* q;  // D x kStrip, times scale * log2 e
  T* o;  // D x kStrip
  T* m;  // kStrip: the largest score so far
  T* l;  // kStrip: the sum of exponentials relative to it
};

template <typename T>
class ForwardBlock {
 public:
  ForwardBlock(const AttentionForwardArgs& args, const QueryBlock& block)
      : args_(args), size_(args.size), block_(block), strips_(strip_count<T>(block)) {
    carve_scratch([this](Carver& c) { carve(c); });
  }

  void run() {
    for (int64_t i = 0; i < strips_; ++i) load_strip(i);
    thread_local std::vector<KeyRange> ranges;
    KeyWalk<T> walk(size_, block_, ranges);
    const HeadGroup& g = block_.group;
    const T* k = row_of<T>(args_.k, args_.k_stride, g.batch, 0, g.kv_head);
    const T* v = row_of<T>(args_.v, args_.v_stride, g.batch, 0, g.kv_head);
    while (walk.next(size_, k, args_.k_stride.token, v, args_.v_stride.token, *tile_))
      for (int64_t i = 0; i < strips_; ++i) {
        const TileView view = tile_view(*tile_, states_[i].where);
        if (view.seen > 0)
          with_vectors<T>(states_[i].where.lanes,
                          [&](auto n) { add_tile<decltype(n)::value>(states_[i], view); });
      }
    for (int64_t i = 0; i < strips_; ++i) store_strip(i);
  }

 private:
  void carve(Carver& c) {
    tile_ = take_tile<T>(c, size_.D);
    scores_ = c.take<T>(kTileKeys * kStrip<T>);
    states_ = c.take<ForwardState<T>>(strips_);
    for (int64_t i = 0; i < strips_; ++i) {
      T* q = c.take<T>(size_.D * kStrip<T>);
      T* o = c.take<T>(size_.D * kStrip<T>);
      T* m = c.take<T>(kStrip<T>);
      T* l = c.take<T>(kStrip<T>);
      if (states_) states_[i] = {strip_lanes<T>(block_, i), q, o, m, l};
    }
  }

  int64_t token_of(const ForwardState<T>& s, int64_t lane) const {
    return s.where.position[lane] - size_.query_offset;
  }
  int64_t head_of(const ForwardState<T>& s, int64_t lane) const {
    return block_.group.first_head + (s.where.first_row + lane) % block_.group.heads;
  }

  const T* query(const ForwardState<T>& s, int64_t lane) const {
    return row_of<T>(args_.q, args_.q_stride, block_.group.batch, token_of(s, lane),
                     head_of(s, lane));
  }
  T* output(const ForwardState<T>& s, int64_t lane) const {
    const int64_t head = head_of(s, lane);
    const int64_t row =
        output_row(*size_.pattern, head, s.where.position[lane]) - size_.query_offset;
    return row_of<T>(args_.o, args_.o_stride, block_.group.batch, row, head);
  }

  void load_strip(int64_t i) {
    const ForwardState<T>& s = states_[i];
    if (i + 1 < strips_)
      for (int64_t lane = 0; lane < states_[i + 1].where.lanes; ++lane)
        prefetch_row(query(states_[i + 1], lane), size_.D);
    if (s.where.lanes < kStrip<T>) std::fill_n(s.q, size_.D * kStrip<T>, T(0));
    std::fill_n(s.o, size_.D * kStrip<T>, T(0));
    std::fill_n(s.m, kStrip<T>, kMinusInfinity<T>);
    std::fill_n(s.l, kStrip<T>, T(0));
    for (int64_t lane = 0; lane < s.where.lanes; ++lane)
      put_lane(query(s, lane), size_.D, static_cast<T>(size_.scale * kLog2E), s.q, lane);
  }

  template <int kVectors>
  void add_tile(const ForwardState<T>& s, TileView view) {
    const int64_t width = padded<T>(size_.D);
    micro_product<Left::plain, false, kVectors, T>(
        {tile_->k, width, s.q, kStrip<T>, scores_, kStrip<T>, view.seen, size_.D});
    mask_scores(*size_.pattern, block_, *tile_, s.where, view, scores_);
    soften<kVectors>(s, view.seen);
    micro_product<Left::transposed, true, kVectors, T>(
        {tile_->v, width, scores_, kStrip<T>, s.o, kStrip<T>, size_.D, view.seen});
  }

  // Scores to exponentials, and what was summed so far to the new maximum.
  template <int kVectors>
  void soften(const ForwardState<T>& s, int64_t rows) {
    Vec<T> before[kVectors], m[kVectors], base[kVectors], sum[kVectors], shrink[kVectors];
    for (int v = 0; v < kVectors; ++v) m[v] = before[v] = load<T>(s.m + v * kLanes<T>);
    for (int64_t r = 0; r < rows; ++r)
      for (int v = 0; v < kVectors; ++v) {
        const Vec<T> score = load<T>(scores_ + r * kStrip<T> + v * kLanes<T>);
        m[v] = score > m[v] ? score : m[v];
      }
    for (int v = 0; v < kVectors; ++v) {
      // A lane that has seen nothing yet: any finite maximum gives it zeros.
      base[v] = m[v] == kMinusInfinity<T> ? Vec<T>{} : m[v];
      sum[v] = Vec<T>{};
      store<T>(s.m + v * kLanes<T>, m[v]);
    }
    for (int64_t r = 0; r < rows; ++r)
      for (int v = 0; v < kVectors; ++v) {
        T* const at = scores_ + r * kStrip<T> + v * kLanes<T>;
        const Vec<T> p = exp2_of(load<T>(at) - base[v]);
        store<T>(at, p);
        sum[v] += p;
      }
    for (int v = 0; v < kVectors; ++v) {
      T* const l = s.l + v * kLanes<T>;
      shrink[v] = exp2_of(before[v] - base[v]);
      store<T>(l, load<T>(l) * shrink[v] + sum[v]);
    }
    for (int64_t d = 0; d < size_.D; ++d)
      for (int v = 0; v < kVectors; ++v) {
        T* const o = s.o + d * kStrip<T> + v * kLanes<T>;
        store<T>(o, load<T>(o) * shrink[v]);
      }
  }

  void store_strip(int64_t i) {
    const ForwardState<T>& s = states_[i];
    if (i + 1 < strips_)
      for (int64_t lane = 0; lane < states_[i + 1].where.lanes; ++lane)
        prefetch_row_to_write(output(states_[i + 1], lane), size_.D);
    for (int64_t lane = 0; lane < s.where.lanes; ++lane) {
      const int64_t head = head_of(s, lane);
      const int64_t row =
          output_row(*size_.pattern, head, s.where.position[lane]) - size_.query_offset;
      const T l = s.l[lane];
      get_lane(s.o, lane, size_.D, l > 0 ? 1 / l : l, output(s, lane));
      if (args_.lse != nullptr)
        static_cast<T*>(args_.lse)[(block_.group.batch * size_.H + head) * size_.T + row] =
            s.m[lane] * static_cast<T>(kLn2) + std::log(l);
    }
  }

  const AttentionForwardArgs& args_;
  const AttentionSizes& size_;
  const QueryBlock& block_;
  const int64_t strips_;
  KeyTile<T>* tile_;
  T* scores_;
  ForwardState<T>* states_;
};

template <typename T>
void forward(const AttentionForwardArgs& args) {
  if (args.size.T == 1) return attention_decode<T>(args);
  const std::vector<QueryBlock> blocks = forward_blocks(args.size, kStrip<T>, kForwardRows);
  parallel_items(static_cast<int64_t>(blocks.size()), [&](int64_t i, int) {
    ForwardBlock<T>(args, blocks[static_cast<size_t>(i)]).run();
  });
  if (args.column_sums != nullptr) attention_column_sums<T>(args);
}

}  // namespace

size_t attention_forward_scratch(const AttentionSizes&) { return 0; }

void attention_forward(const AttentionForwardArgs& args) {
  check_attention(args.size, false);
  check_column_sums(args);
  args.size.dtype == DType::f32 ? forward<float>(args) : forward<double>(args);
}

}  // namespace mullion::cpu
