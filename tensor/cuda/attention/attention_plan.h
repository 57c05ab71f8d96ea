// What the attention kernels visit, worked out on the host from AttentionPattern (pane_end() and
// key_ranges(), which cost what they see) and kept on the device: the kernels know of lists and
// ranges of keys only, one and the same for every pattern.
//
// Queries of a *view* (heads with same_view()) between two borders of the pattern form a pane. It
// sees a list of single keys (the sinks, drawn or summary keys) followed by one range; a key's
// place in that sequence is its *slot*. Sinks therefore cost as many slots as there are sinks. The
// gradients of keys go the other way: a block of keys lists the spans of queries that see its keys
// as part of a range. Keys seen one by one from far away (the sinks) get their share from each pane
// in a row of a side buffer, which the key's block adds in the order of panes.
#pragma once
#include <climits>
#include <cstdint>
#include <memory>

#include "tensor/kernel_args/attention.h"

namespace mullion::cuda {

// Heads of one key head and view: row = token * heads + head.
struct PlanGroup {
  int32_t batch, kv_head, first_head, heads;
  uint32_t reciprocal;  // row / heads = row * reciprocal / 2^31 for rows below kMostRows
  int32_t view;
  int32_t roll;  // the result of the query at position i goes to row (i + roll) % period
  int32_t side;  // its first row in the side buffer
};

struct PlanPane {
  int32_t q0, q1;        // its queries
  int32_t list, listed;  // keys[list] to keys[list + listed - 1], then
  int32_t begin, end;    // this range
  int32_t side, sides;  // the first `sides` of the list go to rows side, side + 1, ... of the group
  KeyRule rule;         // of the range; the list is seen whole, but where the rule is `partial`
};

// Sorted for a steady load: group after group, the costly ones of a group first.
struct QueryWork {  // queries i0 to i1 - 1 of a group
  int32_t group, pane, i0, i1;
};
struct KeyWork {  // the keys from `key` on, of the groups of one key head
  int32_t first_group, groups, key;
};
struct ListWork {  // slots from `slot` on of a pane's side rows
  int32_t group, pane, slot;
};

struct KeySpan {  // queries [q0, q1) see keys [begin, end) by the rule
  int32_t q0, q1, begin, end;
  KeyRule rule;
};

// The arrays lie on the device; the struct is handed to kernels by value.
struct AttentionPlan {
  const PlanGroup* groups = nullptr;
  const PlanPane* panes = nullptr;
  const int32_t* keys = nullptr;
  const QueryWork* queries = nullptr;
  // For gradients alone:
  const KeyWork* key_blocks = nullptr;
  const ListWork* lists = nullptr;
  const KeySpan* spans = nullptr;
  const int32_t* span_first = nullptr;   // by view and block: spans [first[i], first[i + 1])
  const int32_t* row_first = nullptr;    // by view and key: side_rows [first[i], first[i + 1])
  const int32_t* side_rows = nullptr;    // rows of a group, ascending
  int32_t n_groups = 0, most_heads = 0;  // most_heads: of a group
  int32_t n_queries = 0, n_key_blocks = 0, n_lists = 0;
  int32_t keys_per_block = 1, blocks = 0;  // of a view
  int32_t n_side_rows = 0;                 // of all groups
  int32_t n_keys = 0;
  int32_t period = INT_MAX;  // of `roll`
  int32_t stride = 1;        // of the rule `partial`, which only the strided pattern has
};

// How a kernel cuts its work.
struct PlanShape {
  int32_t rows;           // of a block of queries
  int32_t key_block = 0;  // keys of a block of gradients; 0: the forward alone
  int32_t list_tile = 1;  // slots of one ListWork
  bool operator==(const PlanShape&) const = default;
};

constexpr int64_t kMostHeads = 32;                              // of a group; a block has more rows
constexpr int64_t kMostRows = (int64_t{1} << 31) / kMostHeads;  // tokens times heads of a group

// The plan for the current device, made once for sizes, pattern and shape, and kept while it is
// among the last used. The memory stays valid for kernels queued before it goes.
AttentionPlan attention_plan(const AttentionSizes& size, const PlanShape& shape);

}  // namespace mullion::cuda
