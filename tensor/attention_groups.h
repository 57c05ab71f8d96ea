// Query heads that share a key head and see the same keys form a head group: on every device its
// queries are stacked, row = token * heads + head, so that keys are read once for all of them and
// their gradients are summed over the rows.
#pragma once
#include <vector>

#include "tensor/kernel_args/attention.h"

namespace mullion {

struct HeadGroup {
  int64_t batch, kv_head, first_head, heads;
  int64_t rank;  // among the groups of this batch row and key head
};

// Ordered by batch row, key head, first head; none has more than max_heads.
std::vector<HeadGroup> head_groups(const AttentionSizes& size, int64_t max_heads = INT64_MAX);

// Throws Error for sizes that do not fit together or to the pattern; the type is the device's own
// business.
void check_attention_sizes(const AttentionSizes& size, bool backward);
void check_column_sums(const AttentionForwardArgs& args);

}  // namespace mullion
