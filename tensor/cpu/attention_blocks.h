// How the attention kernels cut their work. The queries of a head group are stacked, so that each
// key tile is read once for all of its heads. A head group's tokens are cut at the pattern's panes
// and into blocks of some hundred rows.
#pragma once
#include <vector>

#include "tensor/attention_groups.h"

namespace mullion::cpu {

struct QueryBlock {
  HeadGroup group;
  int64_t i0, i1;  // positions of the queries among the keys
  int64_t cost;    // visible pairs, of all heads together
};

void check_attention(const AttentionSizes& size, bool backward);

// The blocks of positions [i0, i1) of one group, in order, each of at most `rows` rows.
void append_blocks(const AttentionSizes& size, const HeadGroup& group, int64_t i0, int64_t i1,
                   int64_t rows, std::vector<QueryBlock>& blocks);

// All blocks, the costly ones first: small enough to keep every thread busy, a multiple of
// `strip` rows where the head count allows, at most max_rows.
std::vector<QueryBlock> forward_blocks(const AttentionSizes& size, int64_t strip, int64_t max_rows);

// One item of the backward pass: the queries [i0, i1) of a group, in order on one thread. Gradients
// of keys in [own_begin, own_end) go to dk and dv themselves or, where another item writes there
// too, to a buffer in scratch; the keys [side_begin, side_end) are sinks before own_begin and go to
// a small side buffer. Buffers are added up afterwards in the order of `sums`, so no thread's
// timing shows in a result.
struct BackwardItem {
  HeadGroup group;
  int64_t i0 = 0, i1 = 0;
  int64_t own_begin = 0, own_end = 0;
  int64_t buffer = -1;  // offset in scratch, in elements; -1: dk and dv themselves
  int64_t side = -1;    // the same for the sinks; -1: there are none outside
  int64_t side_begin = 0, side_end = 0;
  int64_t cost = 0;
};
struct PartialSum {  // dk then dv, each keys x D, to be added to keys [begin, end)
  int64_t batch, kv_head;
  int64_t begin, end;
  int64_t offset;
};
struct BackwardPlan {
  std::vector<BackwardItem> items;  // the costly ones first
  std::vector<PartialSum> sums;
  int64_t scratch = 0;  // elements
};
BackwardPlan plan_backward(const AttentionSizes& size, int64_t block_rows);

}  // namespace mullion::cpu
