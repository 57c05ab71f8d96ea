// Context parallelism as plain data: how the tokens of a sequence are divided among ranks, which
// keys of other ranks the queries of a rank see, and so what travels. Nothing here computes or
// sends (autograd/context_exchange.h does); it is pure functions of an AttentionPattern, whichever
// one, and of sizes. Source: ring attention (Liu et al. 2023) for what is divided; that a pattern
// of segments needs half a group and the sinks alone is ours.
#pragma once
#include <cstdint>
#include <vector>

#include "tensor/attention_pattern.h"

namespace mullion {

struct TokenSpan {
  int64_t begin, end;
  bool operator==(const TokenSpan&) const = default;
};

// The tokens of each rank: spans, ascending.
using ContextLayout = std::vector<std::vector<TokenSpan>>;
// One span a rank, which differ by one token at most. At least one token a rank, else
// Error (usage).
ContextLayout contiguous_layout(int64_t tokens, int64_t ranks);
// Rank r has the spans r and 2 ranks - 1 - r of 2 ranks: the same number of pairs of causal full
// attention for each. At least two tokens a rank.
ContextLayout zigzag_layout(int64_t tokens, int64_t ranks);
// What balances the pattern over `tokens` tokens: zig-zag for one sequence under causal full
// attention, contiguous parts otherwise. Throws Error (usage) for a pattern that moves results to
// the rows of other tokens (shift-up-only, shift-back-only).
ContextLayout context_layout(const AttentionPattern& pattern, int64_t tokens, int64_t ranks);

// The rows of K and V of tokens [begin, end) and key heads [first_head, end_head).
struct KeyBox {
  int64_t begin, end;
  int64_t first_head, end_head;
  bool operator==(const KeyBox&) const = default;
};
// What goes from one rank to another, in this order.
struct KeyTransfer {
  int64_t peer;
  std::vector<KeyBox> boxes;
  int64_t rows() const;  // of one head each: a row of K and one of V travel for it
};

// The part of one rank. Keys lie in the order of `held`, which has its own tokens and those that
// come from others, for all key heads; a head's rows that its queries do not see have no meaning.
struct ContextPart {
  std::vector<TokenSpan> own = {};
  std::vector<HeldSpan> held = {};         // neighbouring spans are one
  std::vector<KeyTransfer> receives = {};  // peers ascending
  std::vector<KeyTransfer> sends = {};     // the same, in the order in which the peer lists it
  int64_t own_tokens() const;
  int64_t held_tokens() const;
  int64_t received_rows() const;
  int64_t sent_rows() const;
};

struct ContextSizes {
  int64_t tokens = 0, heads = 0, kv_heads = 0;
  bool operator==(const ContextSizes&) const = default;
};

// The keys that queries at tokens `own` see, for each key head: by any of the query heads that
// share it. Spans ascending and apart.
std::vector<std::vector<TokenSpan>> keys_seen(const AttentionPattern& pattern,
                                              const ContextSizes& sizes,
                                              const std::vector<TokenSpan>& own);
ContextPart context_part(const AttentionPattern& pattern, const ContextSizes& sizes,
                         const ContextLayout& layout, int64_t rank);
// Where the keys of token `token`, which is held, lie.
int64_t place_of(const ContextPart& part, int64_t token);

// Of a layer's forward: a row is K and V of one head. The backward sends as much the other way.
inline int64_t key_bytes(int64_t rows, int64_t head_dim, int64_t bytes_an_element) {
  return rows * 2 * head_dim * bytes_an_element;
}
// The rows that ring attention sends from each rank: every part but one visits it.
int64_t ring_rows(const ContextSizes& sizes, int64_t ranks);

}  // namespace mullion
