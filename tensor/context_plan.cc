// Spans of own and seen tokens intersected, rank by rank; transfers are what is left.
#include "tensor/context_plan.h"

#include <algorithm>

#include "tensor/check.h"

namespace mullion {

namespace {

using Spans = std::vector<TokenSpan>;

// Sorted, and what touches or overlaps joined.
Spans joined(Spans spans) {
  std::sort(spans.begin(), spans.end(),
            [](const TokenSpan& a, const TokenSpan& b) { return a.begin < b.begin; });
  Spans result;
  for (const TokenSpan& span : spans) {
    if (span.begin >= span.end) continue;
    if (!result.empty() && span.begin <= result.back().end)
      result.back().end = std::max(result.back().end, span.end);
    else
      result.push_back(span);
  }
  return result;
}

// The tokens in both; each ascending and apart.
Spans common(const Spans& a, const Spans& b) {
  Spans result;
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const TokenSpan both{std::max(a[i].begin, b[j].begin), std::min(a[i].end, b[j].end)};
    if (both.begin < both.end) result.push_back(both);
    a[i].end < b[j].end ? ++i : ++j;
  }
  return result;
}

Spans cut(int64_t tokens, int64_t pieces, int64_t ranks) {
  CHECK_AS(Fault::usage, tokens >= pieces, "context parallel: ", tokens, " tokens for ", ranks,
           " ranks; at least ", pieces, " are needed");
  Spans spans;
  for (int64_t i = 0; i < pieces; ++i)
    spans.push_back({tokens * i / pieces, tokens * (i + 1) / pieces});
  return spans;
}

// Key heads that want the same spans travel together.
std::vector<KeyBox> boxes_of(const std::vector<Spans>& heads) {
  std::vector<KeyBox> boxes;
  for (size_t first = 0, end; first < heads.size(); first = end) {
    for (end = first + 1; end < heads.size() && heads[end] == heads[first];) ++end;
    for (const TokenSpan& span : heads[first])
      boxes.push_back(
          {span.begin, span.end, static_cast<int64_t>(first), static_cast<int64_t>(end)});
  }
  return boxes;
}

// What `from` has of the keys that another rank sees.
std::vector<KeyBox> boxes_between(const std::vector<Spans>& seen, const Spans& from) {
  std::vector<Spans> heads;
  for (const Spans& keys : seen) heads.push_back(common(keys, from));
  return boxes_of(heads);
}

int64_t rows_of(const std::vector<KeyTransfer>& transfers) {
  int64_t rows = 0;
  for (const KeyTransfer& transfer : transfers) rows += transfer.rows();
  return rows;
}

}  // namespace

ContextLayout contiguous_layout(int64_t tokens, int64_t ranks) {
  ContextLayout layout;
  for (const TokenSpan& span : cut(tokens, ranks, ranks)) layout.push_back({span});
  return layout;
}

ContextLayout zigzag_layout(int64_t tokens, int64_t ranks) {
  const Spans spans = cut(tokens, 2 * ranks, ranks);
  ContextLayout layout;
  for (int64_t r = 0; r < ranks; ++r)
    layout.push_back(
        joined({spans[static_cast<size_t>(r)], spans[static_cast<size_t>(2 * ranks - 1 - r)]}));
  return layout;
}

ContextLayout context_layout(const AttentionPattern& p, int64_t tokens, int64_t ranks) {
  CHECK_AS(Fault::usage,
           ranks == 1 || p.shift == 0 || p.first_shifted_in == p.first_shifted_out ||
               p.wrap == Wrap::split,
           "context parallel: an attention that shifts on one side only, whose results lie at "
           "tokens of other ranks, is not divided");
  const bool one_triangle = p.kind == PatternKind::full && p.causal && p.documents.empty();
  return one_triangle && ranks > 1 && tokens >= 2 * ranks ? zigzag_layout(tokens, ranks)
                                                          : contiguous_layout(tokens, ranks);
}

int64_t KeyTransfer::rows() const {
  int64_t rows = 0;
  for (const KeyBox& box : boxes) rows += (box.end - box.begin) * (box.end_head - box.first_head);
  return rows;
}

int64_t ContextPart::own_tokens() const {
  int64_t tokens = 0;
  for (const TokenSpan& span : own) tokens += span.end - span.begin;
  return tokens;
}
int64_t ContextPart::held_tokens() const {
  return held.back().at + held.back().end - held.back().begin;
}
int64_t ContextPart::received_rows() const { return rows_of(receives); }
int64_t ContextPart::sent_rows() const { return rows_of(sends); }

std::vector<std::vector<TokenSpan>> keys_seen(const AttentionPattern& p, const ContextSizes& sizes,
                                              const std::vector<TokenSpan>& own) {
  DCHECK(p.held.empty());
  const int64_t share = sizes.heads / sizes.kv_heads;
  std::vector<Spans> by_head;  // of query heads
  std::vector<KeyRange> ranges;
  for (int64_t head = 0; head < sizes.heads; ++head) {
    if (head > 0 && same_view(p, head - 1, head)) {
      by_head.push_back(by_head.back());
      continue;
    }
    Spans keys;
    for (const TokenSpan& span : own)
      for (int64_t i0 = span.begin, i1; i0 < span.end; i0 = i1) {
        i1 = std::min(span.end, pane_end(p, head, i0, sizes.tokens));
        key_ranges(p, head, i0, i1, sizes.tokens, ranges);
        for (const KeyRange& r : ranges) keys.push_back({r.begin, r.end});
      }
    by_head.push_back(joined(std::move(keys)));
  }
  std::vector<Spans> seen;
  for (int64_t kv = 0; kv < sizes.kv_heads; ++kv) {
    Spans keys;
    for (int64_t head = kv * share; head < (kv + 1) * share; ++head) {
      const Spans& its = by_head[static_cast<size_t>(head)];
      keys.insert(keys.end(), its.begin(), its.end());
    }
    seen.push_back(joined(std::move(keys)));
  }
  return seen;
}

ContextPart context_part(const AttentionPattern& pattern, const ContextSizes& sizes,
                         const ContextLayout& layout, int64_t rank) {
  CHECK(sizes.kv_heads > 0 && sizes.heads % sizes.kv_heads == 0, "context parallel: ", sizes.heads,
        " heads that share ", sizes.kv_heads, " of keys");
  CHECK_AS(Fault::usage, pattern.wrap == Wrap::split || pattern.context == sizes.tokens,
           "context parallel: a rolled pattern for ", pattern.context, " tokens used with ",
           sizes.tokens);
  const auto me = static_cast<size_t>(rank);
  ContextPart part{.own = layout[me]};
  const std::vector<Spans> mine = keys_seen(pattern, sizes, part.own);
  Spans held = part.own;
  for (size_t peer = 0; peer < layout.size(); ++peer) {
    if (peer == me) continue;
    KeyTransfer in{static_cast<int64_t>(peer), boxes_between(mine, layout[peer])};
    for (const KeyBox& box : in.boxes) held.push_back({box.begin, box.end});
    if (!in.boxes.empty()) part.receives.push_back(std::move(in));
    KeyTransfer out{static_cast<int64_t>(peer),
                    boxes_between(keys_seen(pattern, sizes, layout[peer]), part.own)};
    if (!out.boxes.empty()) part.sends.push_back(std::move(out));
  }
  int64_t at = 0;
  for (const TokenSpan& span : joined(held)) {
    part.held.push_back({span.begin, span.end, at});
    at += span.end - span.begin;
  }
  return part;
}

int64_t place_of(const ContextPart& part, int64_t token) {
  const auto after =
      std::upper_bound(part.held.begin(), part.held.end(), token,
                       [](int64_t x, const HeldSpan& span) { return x < span.begin; });
  DCHECK(after != part.held.begin() && token < (after - 1)->end);
  return (after - 1)->at + token - (after - 1)->begin;
}

int64_t ring_rows(const ContextSizes& sizes, int64_t ranks) {
  return sizes.tokens / ranks * (ranks - 1) * sizes.kv_heads;
}

}  // namespace mullion
