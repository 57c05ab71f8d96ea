// Attention backward, with the probabilities recomputed from the log-sum-exp:
//   p = 2^(s - lse),  dv = p^T do,  ds = p (do v^T - delta),  delta = rowsum(do o),
//   dq = scale ds k,  dk = scale ds^T q                              (FlashAttention, algorithm 4)
// in five products a pair of tiles. One work item goes through its queries in order and adds to the
// keys it owns; what several items add to one key is kept apart and summed in a fixed order.
#include "tensor/check.h"
#include "tensor/cpu/attention.h"
#include "tensor/cpu/attention_tiles.h"
#include "tensor/parallel.h"

namespace mullion::cpu {

namespace {

constexpr int64_t kBackwardRows = 480;

template <typename T>
struct BackwardState {  // of one strip
  StripLanes<T> where;
  T* q;         // D x kStrip, times scale * log2 e
  T* q_rows;    // kStrip x padded D, times scale
  T* d_o;       // D x kStrip
  T* d_o_rows;  // kStrip x padded D
  T* dq;        // D x kStrip
  T* lse;       // kStrip, in powers of two
  T* delta;     // kStrip
};

// Where the gradient of a key goes.
template <typename T>
struct KeyGradient {
  T* dk;
  T* dv;
};

template <typename T>
class BackwardRun {  // one work item on one thread
 public:
  BackwardRun(const AttentionBackwardArgs& args, const BackwardItem& item)
      : args_(args), size_(args.size), item_(item), width_(padded<T>(args.size.D)) {
    append_blocks(size_, item.group, item.i0, item.i1, kBackwardRows, blocks_);
    for (const QueryBlock& block : blocks_)
      most_strips_ = std::max(most_strips_, strip_count<T>(block));
    carve_scratch([this](Carver& c) { carve(c); });
  }

  void run() {
    for (int64_t key = item_.own_begin; key < item_.own_end; ++key) clear(gradient_of(key));
    for (int64_t key = item_.side_begin; key < item_.side_end; ++key) clear(gradient_of(key));
    for (const QueryBlock& block : blocks_) run_block(block);
  }

 private:
  void carve(Carver& c) {
    const int64_t lanes = kStrip<T>, block = size_.D * lanes, rows = lanes * width_;
    tile_ = take_tile<T>(c, size_.D);
    dk_ = c.take<T>(kTileKeys * width_);
    dv_ = c.take<T>(kTileKeys * width_);
    p_ = c.take<T>(kTileKeys * lanes);
    ds_ = c.take<T>(kTileKeys * lanes);
    states_ = c.take<BackwardState<T>>(most_strips_);
    for (int64_t i = 0; i < most_strips_; ++i) {
      T* q = c.take<T>(block);
      T* q_rows = c.take<T>(rows);
      T* d_o = c.take<T>(block);
      T* d_o_rows = c.take<T>(rows);
      T* dq = c.take<T>(block);
      T* lse = c.take<T>(lanes);
      T* delta = c.take<T>(lanes);
      if (states_) states_[i] = {{}, q, q_rows, d_o, d_o_rows, dq, lse, delta};
    }
  }

  KeyGradient<T> gradient_of(int64_t key) const {
    T* const scratch = static_cast<T*>(args_.scratch);
    if (key < item_.own_begin || key >= item_.own_end) {
      DCHECK(item_.side >= 0 && key >= item_.side_begin && key < item_.side_end);
      T* const at = scratch + item_.side + (key - item_.side_begin) * size_.D;
      return {at, at + (item_.side_end - item_.side_begin) * size_.D};
    }
    if (item_.buffer >= 0) {
      T* const at = scratch + item_.buffer + (key - item_.own_begin) * size_.D;
      return {at, at + (item_.own_end - item_.own_begin) * size_.D};
    }
    const HeadGroup& g = item_.group;
    return {row_of<T>(args_.dk, args_.dk_stride, g.batch, key, g.kv_head),
            row_of<T>(args_.dv, args_.dv_stride, g.batch, key, g.kv_head)};
  }
  void clear(KeyGradient<T> g) const {
    std::fill_n(g.dk, size_.D, T(0));
    std::fill_n(g.dv, size_.D, T(0));
  }

  void run_block(const QueryBlock& block) {
    const int64_t strips = strip_count<T>(block);
    for (int64_t i = 0; i < strips; ++i) {
      if (i + 1 < strips) prefetch_strip(block, i + 1);
      load_strip(block, i);
    }
    thread_local std::vector<KeyRange> ranges;
    KeyWalk<T> walk(size_, block, ranges);
    const HeadGroup& g = block.group;
    const T* k = row_of<T>(args_.k, args_.k_stride, g.batch, 0, g.kv_head);
    const T* v = row_of<T>(args_.v, args_.v_stride, g.batch, 0, g.kv_head);
    while (walk.next(size_, k, args_.k_stride.token, v, args_.v_stride.token, *tile_)) {
      for (int64_t row = 0; row < tile_->count; ++row) {
        const KeyGradient<T> to = gradient_of(tile_->key[row]);
        prefetch_row_to_write(to.dk, size_.D);
        prefetch_row_to_write(to.dv, size_.D);
      }
      std::fill_n(dk_, tile_->count * width_, T(0));
      std::fill_n(dv_, tile_->count * width_, T(0));
      for (int64_t i = 0; i < strips; ++i) {
        const TileView view = tile_view(*tile_, states_[i].where);
        if (view.seen > 0)
          with_vectors<T>(states_[i].where.lanes,
                          [&](auto n) { add_tile<decltype(n)::value>(block, states_[i], view); });
      }
      flush_tile();
    }
    for (int64_t i = 0; i < strips; ++i) store_strip(block, states_[i]);
  }

  void prefetch_strip(const QueryBlock& block, int64_t i) const {
    const StripLanes<T> where = strip_lanes<T>(block, i);
    for (int64_t lane = 0; lane < where.lanes; ++lane) {
      const int64_t head = block.group.first_head + (where.first_row + lane) % block.group.heads;
      const int64_t batch = block.group.batch, token = where.position[lane] - size_.query_offset;
      const auto prefetch = [&](const void* base, const AttentionStrides& stride, int64_t row) {
        prefetch_row(row_of<T>(base, stride, batch, row, head), size_.D);
      };
      const int64_t out = row_of_output(head, where.position[lane]);
      prefetch(args_.q, args_.q_stride, token);
      prefetch(args_.o, args_.o_stride, out);
      prefetch(args_.d_o, args_.d_o_stride, out);
      prefetch(args_.dq, args_.dq_stride, token);
    }
  }

  void load_strip(const QueryBlock& block, int64_t i) {
    BackwardState<T>& s = states_[i];
    const int64_t D = size_.D, batch = block.group.batch;
    s.where = strip_lanes<T>(block, i);
    std::fill_n(s.dq, D * kStrip<T>, T(0));
    if (s.where.lanes < kStrip<T>) {
      std::fill_n(s.q, D * kStrip<T>, T(0));
      std::fill_n(s.d_o, D * kStrip<T>, T(0));
      std::fill_n(s.lse, kStrip<T>, -kMinusInfinity<T>);
      std::fill_n(s.delta, kStrip<T>, T(0));
    }
    for (int64_t lane = 0; lane < s.where.lanes; ++lane) {
      const int64_t head = head_of(block, s, lane);
      const int64_t token = s.where.position[lane] - size_.query_offset;
      const int64_t out = row_of_output(head, s.where.position[lane]);
      const T* q = row_of<T>(args_.q, args_.q_stride, batch, token, head);
      const T* o = row_of<T>(args_.o, args_.o_stride, batch, out, head);
      const T* d_o = row_of<T>(args_.d_o, args_.d_o_stride, batch, out, head);
      put_lane(q, D, static_cast<T>(size_.scale * kLog2E), s.q, lane);
      put_lane(d_o, D, T(1), s.d_o, lane);
      T* q_row = s.q_rows + lane * width_;
      T* d_o_row = s.d_o_rows + lane * width_;
      for (int64_t d = 0; d < D; ++d) q_row[d] = q[d] * static_cast<T>(size_.scale);
      std::copy_n(d_o, D, d_o_row);
      std::fill(q_row + D, q_row + width_, T(0));
      std::fill(d_o_row + D, d_o_row + width_, T(0));
      const T lse = static_cast<const T*>(args_.lse)[(batch * size_.H + head) * size_.T + out];
      // A row that saw nothing has -infinity here; as +infinity it gives zeros.
      s.lse[lane] = (lse == kMinusInfinity<T> ? -lse : lse) * static_cast<T>(kLog2E);
      s.delta[lane] = dot(o, d_o, D);
    }
  }

  int64_t head_of(const QueryBlock& block, const BackwardState<T>& s, int64_t lane) const {
    return block.group.first_head + (s.where.first_row + lane) % block.group.heads;
  }

  int64_t row_of_output(int64_t head, int64_t position) const {
    return output_row(*size_.pattern, head, position) - size_.query_offset;
  }

  template <int kVectors>
  void add_tile(const QueryBlock& block, const BackwardState<T>& s, TileView view) {
    constexpr int64_t lanes = kStrip<T>;
    const int64_t rows = view.seen, D = size_.D, vectors = width_ / kLanes<T>;
    micro_product<Left::plain, false, kVectors, T>(
        {tile_->k, width_, s.q, lanes, p_, lanes, rows, D});
    micro_product<Left::plain, false, kVectors, T>(
        {tile_->v, width_, s.d_o, lanes, ds_, lanes, rows, D});
    mask_scores(*size_.pattern, block, *tile_, s.where, view, p_);
    Vec<T> lse[kVectors], delta[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      lse[v] = load<T>(s.lse + v * kLanes<T>);
      delta[v] = load<T>(s.delta + v * kLanes<T>);
    }
    for (int64_t r = 0; r < rows; ++r)
      for (int v = 0; v < kVectors; ++v) {
        T* const p_at = p_ + r * lanes + v * kLanes<T>;
        T* const ds_at = ds_ + r * lanes + v * kLanes<T>;
        const Vec<T> p = exp2_of(load<T>(p_at) - lse[v]);
        store<T>(p_at, p);
        store<T>(ds_at, p * (load<T>(ds_at) - delta[v]));
      }
    wide_product<Left::plain, true, T>(
        {p_, lanes, s.d_o_rows, width_, dv_, width_, rows, s.where.lanes}, vectors);
    wide_product<Left::plain, true, T>(
        {ds_, lanes, s.q_rows, width_, dk_, width_, rows, s.where.lanes}, vectors);
    micro_product<Left::transposed, true, kVectors, T>(
        {tile_->k, width_, ds_, lanes, s.dq, lanes, D, rows});
  }

  void flush_tile() const {
    for (int64_t row = 0; row < tile_->count; ++row) {
      const KeyGradient<T> to = gradient_of(tile_->key[row]);
      const T* dk = dk_ + row * width_;
      const T* dv = dv_ + row * width_;
      for (int64_t d = 0; d < size_.D; ++d) to.dk[d] += dk[d];
      for (int64_t d = 0; d < size_.D; ++d) to.dv[d] += dv[d];
    }
  }

  void store_strip(const QueryBlock& block, const BackwardState<T>& s) const {
    for (int64_t lane = 0; lane < s.where.lanes; ++lane)
      get_lane(s.dq, lane, size_.D, static_cast<T>(size_.scale),
               row_of<T>(args_.dq, args_.dq_stride, block.group.batch,
                         s.where.position[lane] - size_.query_offset, head_of(block, s, lane)));
  }

  const AttentionBackwardArgs& args_;
  const AttentionSizes& size_;
  const BackwardItem& item_;
  const int64_t width_;
  std::vector<QueryBlock> blocks_;
  int64_t most_strips_ = 0;
  KeyTile<T>* tile_;
  T* dk_;  // kTileKeys x padded D: what the block adds to the tile
  T* dv_;
  T* p_;   // kTileKeys x kStrip
  T* ds_;  // kTileKeys x kStrip
  BackwardState<T>* states_;
};

// Adds the partial sums to dk and dv, in the plan's order for every key.
template <typename T>
void add_partial_sums(const AttentionBackwardArgs& args, const BackwardPlan& plan) {
  const AttentionSizes& s = args.size;
  constexpr int64_t kKeys = 64;
  const int64_t parts = (s.S + kKeys - 1) / kKeys;
  parallel_for(parts, 1, [&](int64_t first, int64_t last) {
    for (const PartialSum& sum : plan.sums) {
      const int64_t begin = std::max(sum.begin, first * kKeys);
      const int64_t end = std::min(sum.end, last * kKeys);
      const T* from = static_cast<const T*>(args.scratch) + sum.offset;
      for (int64_t key = begin; key < end; ++key) {
        T* dk = row_of<T>(args.dk, args.dk_stride, sum.batch, key, sum.kv_head);
        T* dv = row_of<T>(args.dv, args.dv_stride, sum.batch, key, sum.kv_head);
        const T* dk_part = from + (key - sum.begin) * s.D;
        const T* dv_part = dk_part + (sum.end - sum.begin) * s.D;
        for (int64_t d = 0; d < s.D; ++d) dk[d] += dk_part[d];
        for (int64_t d = 0; d < s.D; ++d) dv[d] += dv_part[d];
      }
    }
  });
}

template <typename T>
void backward(const AttentionBackwardArgs& args) {
  const BackwardPlan plan = plan_backward(args.size, kBackwardRows);
  DCHECK(plan.scratch == 0 || args.scratch != nullptr);
  parallel_items(static_cast<int64_t>(plan.items.size()), [&](int64_t i, int) {
    BackwardRun<T>(args, plan.items[static_cast<size_t>(i)]).run();
  });
  if (!plan.sums.empty()) add_partial_sums<T>(args, plan);
}

}  // namespace

size_t attention_backward_scratch(const AttentionSizes& size) {
  check_attention(size, true);
  return static_cast<size_t>(plan_backward(size, kBackwardRows).scratch * size_of(size.dtype));
}

void attention_backward(const AttentionBackwardArgs& args) {
  check_attention(args.size, true);
  args.size.dtype == DType::f32 ? backward<float>(args) : backward<double>(args);
}

}  // namespace mullion::cpu
