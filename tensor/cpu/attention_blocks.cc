// Items of a plan, the costly ones first, cut so that threads end together.
#include "tensor/cpu/attention_blocks.h"

#include <algorithm>
#include <numeric>

#include "tensor/check.h"
#include "tensor/parallel.h"

namespace mullion::cpu {

void check_attention(const AttentionSizes& s, bool backward) {
  check_attention_sizes(s, backward);
  CHECK(s.dtype == DType::f32 || s.dtype == DType::f64, "attention: ", name_of(s.dtype),
        " is neither f32 nor f64");
}

namespace {

int64_t count_pairs(const std::vector<KeyRange>& ranges, int64_t i0, int64_t i1) {
  int64_t pairs = 0;
  for (const KeyRange& r : ranges) {
    pairs += (i1 - i0) * (r.end - r.begin);
    if (r.rule == KeyRule::causal) pairs -= (i1 - i0) * (i1 - i0 - 1) / 2;
  }
  return pairs;
}

template <typename Item>
void costly_first(std::vector<Item>& items) {
  std::stable_sort(items.begin(), items.end(),
                   [](const Item& a, const Item& b) { return a.cost > b.cost; });
}

}  // namespace

void append_blocks(const AttentionSizes& s, const HeadGroup& group, int64_t i0, int64_t i1,
                   int64_t rows, std::vector<QueryBlock>& blocks) {
  const int64_t tokens = std::max<int64_t>(1, rows / group.heads);
  std::vector<KeyRange> ranges;
  while (i0 < i1) {
    const int64_t pane = std::min(i1, pane_end(*s.pattern, group.first_head, i0, s.S));
    const int64_t end = std::min(pane, i0 + tokens);
    key_ranges(*s.pattern, group.first_head, i0, end, s.S, ranges);
    blocks.push_back({group, i0, end, count_pairs(ranges, i0, end) * group.heads});
    i0 = end;
  }
}

std::vector<QueryBlock> forward_blocks(const AttentionSizes& s, int64_t strip, int64_t max_rows) {
  const int64_t share = s.B * s.H * s.T / (4 * num_threads());
  const int64_t rows = std::clamp((share + strip - 1) / strip * strip, strip, max_rows);
  std::vector<QueryBlock> blocks;
  for (const HeadGroup& group : head_groups(s))
    append_blocks(s, group, s.query_offset, s.query_offset + s.T, rows, blocks);
  costly_first(blocks);
  return blocks;
}

namespace {

// Segments own their keys: nobody else but for the sinks adds to their gradients. Without causality
// the queries before a sink see it too; then all sinks must be the first segment's own, of which a
// shifted head has but a part, and segments must be at hand as a whole.
bool segments_own_keys(const AttentionPattern& p) {
  return p.kind == PatternKind::segments && p.wrap == Wrap::split && !p.sink_query_noncausal &&
         (p.causal || (p.held.empty() && p.sinks <= p.group - p.shift));
}

// How many items to make of each group where keys are shared: as few as balance the threads, since
// each but one costs a buffer.
int64_t shards_per_group(int64_t groups, int64_t tokens) {
  const int64_t threads = num_threads(), most = std::clamp<int64_t>(tokens / 64, 1, 16);
  int64_t shards = 1;
  while (shards < most && groups * shards % threads != 0 && groups * shards < 4 * threads) ++shards;
  return shards;
}

class Planner {
 public:
  Planner(const AttentionSizes& s, int64_t block_rows)
      : s_(s), rows_(block_rows), last_(s.query_offset + s.T) {}

  BackwardPlan plan() {
    const std::vector<HeadGroup> groups = head_groups(s_);
    const int64_t n = std::ssize(groups) * std::max<int64_t>(1, std::ssize(s_.pattern->documents));
    for (const HeadGroup& group : groups) {
      if (segments_own_keys(*s_.pattern)) {
        add_segments(group);
        continue;
      }
      for (int64_t begin = s_.query_offset, end; begin < last_; begin = end) {
        end = std::min(last_, document_at(*s_.pattern, begin, last_).end);
        add_shards(group, begin, end, shards_per_group(n, end - begin));
      }
    }
    costly_first(plan_.items);
    return std::move(plan_);
  }

 private:
  int64_t reserve(const HeadGroup& g, int64_t begin, int64_t end) {
    const int64_t offset = plan_.scratch;
    plan_.sums.push_back({g.batch, g.kv_head, begin, end, offset});
    plan_.scratch += (2 * (end - begin) * s_.D + 15) / 16 * 16;
    return offset;
  }

  void add_segments(const HeadGroup& group) {
    std::vector<KeyRange> ranges;
    for (int64_t i0 = s_.query_offset, i1; i0 < last_; i0 = i1) {
      i1 = std::min(last_, pane_end(*s_.pattern, group.first_head, i0, s_.S));
      key_ranges(*s_.pattern, group.first_head, i0, i1, s_.S, ranges);
      BackwardItem item{.group = group, .i0 = i0, .i1 = i1};
      // What is held before and after the queries is the first's and the last's.
      item.own_begin = i0 == s_.query_offset ? 0 : i0;
      item.own_end = i1 == last_ ? s_.S : i1;
      item.cost = count_pairs(ranges, i0, i1) * group.heads;
      if (group.rank > 0) item.buffer = reserve(group, item.own_begin, item.own_end);
      item.side_begin = document_at(*s_.pattern, i0, s_.S).begin;
      item.side_end = std::min(item.side_begin + s_.pattern->sinks, item.own_begin);
      if (item.side_end > item.side_begin)
        item.side = reserve(group, item.side_begin, item.side_end);
      plan_.items.push_back(item);
    }
  }

  // The queries [begin, end) of a group, which are those of a document or all; without causality
  // they see all keys.
  void add_shards(const HeadGroup& group, int64_t begin, int64_t end, int64_t shards) {
    const auto [first_key, last_key] = document_at(*s_.pattern, begin, s_.S);
    std::vector<QueryBlock> blocks;
    append_blocks(s_, group, begin, end, rows_, blocks);
    const auto total = std::accumulate(blocks.begin(), blocks.end(), 0.0, [](double sum, auto& b) {
      return sum + static_cast<double>(b.cost);
    });
    double done = 0;
    size_t next = 0;
    for (int64_t shard = 1; shard <= shards && next < blocks.size(); ++shard) {
      BackwardItem item{.group = group, .i0 = blocks[next].i0};
      item.own_begin = first_key;
      const double goal = total * static_cast<double>(shard) / static_cast<double>(shards);
      do {
        done += static_cast<double>(blocks[next].cost);
        item.cost += blocks[next].cost;
        item.i1 = blocks[next++].i1;
      } while (next < blocks.size() && (shard == shards || done < goal));
      const bool last = next == blocks.size();
      const bool prefix = s_.pattern->causal && s_.pattern->kind != PatternKind::segments;
      item.own_end = prefix && !last ? item.i1 : last_key;
      if (!last || group.rank > 0) item.buffer = reserve(group, first_key, item.own_end);
      plan_.items.push_back(item);
    }
  }

  const AttentionSizes& s_;
  const int64_t rows_, last_;  // last_: the end of the queries among the keys
  BackwardPlan plan_;
};

}  // namespace

BackwardPlan plan_backward(const AttentionSizes& size, int64_t block_rows) {
  return Planner(size, block_rows).plan();
}

}  // namespace mullion::cpu
