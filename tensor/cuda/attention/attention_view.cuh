// The plan as the attention kernels read it: where a row of a block stands in memory, and what its
// query sees, slot by slot.
#pragma once
#include "tensor/cuda/attention/attention_plan.h"
#include "tensor/cuda/runtime/launch.h"

namespace mullion::cuda {

constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

// The elements of one token and head.
template <typename T>
__device__ __forceinline__ T* attention_row(T* base, const AttentionStrides& stride, int batch,
                                            int64_t token, int head) {
  return base + batch * stride.batch + token * stride.token + head * stride.head;
}

// Rows of a group from position i0 on: row = (position - i0) * heads + head.
struct RowBlock {
  int batch, kv_head, first_head, heads;
  int i0, rows;
  int offset, roll, period;
  uint32_t reciprocal;

  __device__ int place(int row) const {  // row / heads
    return static_cast<int>(uint64_t{static_cast<uint32_t>(row)} * reciprocal >> 31);
  }
  __device__ int position(int row) const { return i0 + place(row); }
  __device__ int head(int row) const { return first_head + row - place(row) * heads; }
  __device__ int token(int row) const { return position(row) - offset; }
  // Where o, its gradient and lse of the row's query are found.
  __device__ int result_token(int row) const {
    const int at = position(row), room = period - roll;
    return (at < room ? at + roll : at - room) - offset;
  }
};

__device__ __forceinline__ RowBlock row_block(const AttentionPlan& plan, int group, int i0, int i1,
                                              int64_t query_offset) {
  const PlanGroup& g = plan.groups[group];
  return {.batch = g.batch,
          .kv_head = g.kv_head,
          .first_head = g.first_head,
          .heads = g.heads,
          .i0 = i0,
          .rows = (i1 - i0) * g.heads,
          .offset = static_cast<int>(query_offset),
          .roll = g.roll,
          .period = plan.period,
          .reciprocal = g.reciprocal};
}

// Whether the query at `position` sees the key, given that the rule says to ask.
__device__ __forceinline__ bool sees_by_rule(KeyRule rule, int stride, int position, int key) {
  if (rule == KeyRule::all) return true;
  if (rule == KeyRule::causal) return key <= position;
  return key <= position && (position - key < stride || (position - key) % stride == 0);
}

// The keys of a block of queries.
struct KeyView {
  const int32_t* list;
  int listed, begin, slots, stride;
  KeyRule rule;  // of the range; keys on the list are seen by all, but where the rule is `partial`

  __device__ int key(int slot) const { return slot < listed ? list[slot] : begin + slot - listed; }
  // The first position that sees the slot, as far as order alone decides.
  __device__ int seen_from(int slot) const {
    int from = rule == KeyRule::all || slot < listed ? -1 : begin + slot - listed;
    if (slot < listed && rule == KeyRule::partial) from = list[slot];
    return slot < slots ? from : INT_MAX;
  }
  __device__ bool sees(int position, int slot) const {
    return position >= seen_from(slot) &&
           (rule != KeyRule::partial || sees_by_rule(rule, stride, position, key(slot)));
  }
  // Whether every query from position `lowest` on sees all slots before `end`.
  __device__ bool clear(int end, int lowest) const {
    if (end > slots || rule == KeyRule::partial) return false;
    return rule == KeyRule::all || end <= listed || begin + end - 1 - listed <= lowest;
  }
  // Whether no query up to position `highest` sees any slot from `first` on.
  __device__ bool none(int first, int highest) const {
    return rule != KeyRule::all && first >= listed && begin + first - listed > highest;
  }
};

__device__ __forceinline__ KeyView key_view(const AttentionPlan& plan, const QueryWork& work) {
  const PlanPane& pane = plan.panes[work.pane];
  // Keys after the block's last query are not even looked at.
  const int end = pane.rule == KeyRule::all ? pane.end : min(pane.end, work.i1);
  return {.list = plan.keys + pane.list,
          .listed = pane.listed,
          .begin = pane.begin,
          .slots = pane.listed + max(0, end - pane.begin),
          .stride = plan.stride,
          .rule = pane.rule};
}

// Calls f(row) for the rows of the side buffer that belong to a key, always in the same order.
template <typename F>
__device__ void for_side_rows(const AttentionPlan& plan, const KeyWork& work, int key, const F& f) {
  if (plan.n_lists == 0) return;
  for (int g = work.first_group; g < work.first_group + work.groups; ++g) {
    const PlanGroup& group = plan.groups[g];
    const int32_t* const first = plan.row_first + int64_t{group.view} * plan.n_keys + key;
    for (int i = first[0]; i < first[1]; ++i) f(int64_t{group.side} + plan.side_rows[i]);
  }
}

}  // namespace mullion::cuda
