// The definition of each pattern, and the same facts as ranges of keys. tests compare the two.
#include "tensor/attention_pattern.h"

#include <algorithm>

#include "tensor/check.h"

namespace mullion {

namespace {

// The slot of a token after a head's roll by -shift: new[t] = old[(t + shift) mod N].
int64_t slot_of(const AttentionPattern& p, int64_t head, int64_t token) {
  return (token - p.shift_in(head) + p.context) % p.context;
}

// `random` draws one key from each of r equal strata of the keys before a block: exactly r keys,
// distinct, and whether a key is drawn can be asked of the key alone.
uint64_t mixed(uint64_t x) {  // the finaliser of SplitMix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}
int64_t drawn_key(const AttentionPattern& p, int64_t head, int64_t start, int64_t stratum) {
  const int64_t begin = stratum * start / p.random_keys;
  const int64_t end = (stratum + 1) * start / p.random_keys;
  const uint64_t where =
      mixed(mixed(mixed(p.seed) + static_cast<uint64_t>(head)) + static_cast<uint64_t>(start)) +
      static_cast<uint64_t>(stratum);
  return begin + static_cast<int64_t>(mixed(where) % static_cast<uint64_t>(end - begin));
}
bool is_drawn(const AttentionPattern& p, int64_t head, int64_t start, int64_t key) {
  if (start <= p.random_keys) return true;
  const int64_t stratum = ((key + 1) * p.random_keys - 1) / start;  // begin <= key < end
  return drawn_key(p, head, start, stratum) == key;
}

bool segments_visible(const AttentionPattern& p, int64_t head, int64_t i, int64_t j) {
  if (p.sink_query_noncausal && i < p.sinks) return true;
  const bool before = !p.causal || j <= i;
  if (before && j < p.sinks) return true;
  if (p.wrap == Wrap::split) {
    const int64_t shift = p.shift_in(head);
    return before && (i + shift) / p.group == (j + shift) / p.group;
  }
  const int64_t slot_i = slot_of(p, head, i), slot_j = slot_of(p, head, j);
  return slot_i / p.group == slot_j / p.group && (!p.causal || slot_j <= slot_i);
}

// The same in one document, whose first token is 0.
bool visible_inside(const AttentionPattern& p, int64_t head, int64_t i, int64_t j) {
  const int64_t l = p.group;
  switch (p.kind) {
    case PatternKind::full:
      return !p.causal || j <= i;
    case PatternKind::segments:
      return segments_visible(p, head, i, j);
    case PatternKind::fixed:
      return j <= i && (j / l == i / l || j % l >= l - p.summary);
    case PatternKind::strided:
      return j <= i && (i - j < l || (i - j) % l == 0);
    case PatternKind::random:
      return j <= i && (j / l == i / l || is_drawn(p, head, i / l * l, j));
  }
  return false;
}

// The same of a sequence that is at hand as a whole.
DocumentSpan document_in_whole(const AttentionPattern& p, int64_t i, int64_t n) {
  if (p.documents.empty()) return {0, n};
  const auto after = std::upper_bound(p.documents.begin(), p.documents.end(), i);
  return {*(after - 1), after == p.documents.end() ? n : std::min(*after, n)};
}
bool visible_in_whole(const AttentionPattern& p, int64_t head, int64_t i, int64_t j) {
  const auto [begin, end] = document_in_whole(p, i, INT64_MAX);
  return j >= begin && j < end && visible_inside(p, head, i - begin, j - begin);
}

// From a number among the tokens at hand to one in the whole sequence, and how many tokens before
// one of those are at hand.
int64_t in_whole(const AttentionPattern& p, int64_t i) {
  const auto after = std::upper_bound(p.held.begin(), p.held.end(), i,
                                      [](int64_t x, const HeldSpan& span) { return x < span.at; });
  return (after - 1)->begin + i - (after - 1)->at;
}
int64_t held_before(const AttentionPattern& p, int64_t token) {
  const auto after =
      std::upper_bound(p.held.begin(), p.held.end(), token,
                       [](int64_t x, const HeldSpan& span) { return x < span.begin; });
  if (after == p.held.begin()) return 0;
  return (after - 1)->at + std::min(token, (after - 1)->end) - (after - 1)->begin;
}

}  // namespace

DocumentSpan document_at(const AttentionPattern& p, int64_t i, int64_t n) {
  if (p.held.empty()) return document_in_whole(p, i, n);
  const auto [begin, end] = document_in_whole(p, in_whole(p, i), p.length);
  return {held_before(p, begin), held_before(p, end)};
}

int64_t longest_document(const AttentionPattern& p, int64_t n) {
  int64_t longest = 0;
  for (int64_t begin = 0, end; begin < n; begin = end) {
    end = document_at(p, begin, n).end;
    longest = std::max(longest, end - begin);
  }
  return longest;
}

bool visible(const AttentionPattern& p, int64_t head, int64_t i, int64_t j) {
  if (p.held.empty()) return visible_in_whole(p, head, i, j);
  return visible_in_whole(p, head, in_whole(p, i), in_whole(p, j));
}

int64_t output_row(const AttentionPattern& p, int64_t head, int64_t i) {
  if (p.shift_in(head) == p.shift_out(head)) return i;
  if (p.kind != PatternKind::segments || p.wrap == Wrap::split) return i;
  return (slot_of(p, head, i) + p.shift_out(head)) % p.context;
}

bool same_view(const AttentionPattern& p, int64_t a, int64_t b) {
  if (p.kind == PatternKind::random) return a == b;
  if (p.kind != PatternKind::segments) return true;
  return p.shift_in(a) == p.shift_in(b) &&
         (p.wrap == Wrap::split || p.shift_out(a) == p.shift_out(b));
}

namespace {

// pane_end() and key_ranges() of one document, whose first token is 0.
int64_t pane_end_inside(const AttentionPattern& p, int64_t head, int64_t i, int64_t n) {
  switch (p.kind) {
    case PatternKind::full:
    case PatternKind::strided:
      return n;
    case PatternKind::segments: {
      if (p.sink_query_noncausal && i < p.sinks) return std::min(p.sinks, n);
      const int64_t shift = p.shift_in(head);
      return std::min(n, ((i + shift) / p.group + 1) * p.group - shift);
    }
    case PatternKind::fixed:
    case PatternKind::random:
      return std::min(n, (i / p.group + 1) * p.group);
  }
  return n;
}

void segment_ranges(const AttentionPattern& p, int64_t head, int64_t i0, int64_t i1, int64_t n,
                    std::vector<KeyRange>& out) {
  const auto add = [&](int64_t begin, int64_t end, KeyRule rule) {
    if (begin < std::min(end, n)) out.push_back({begin, std::min(end, n), rule});
  };
  if (p.sink_query_noncausal && i0 < p.sinks) return add(0, n, KeyRule::all);
  const int64_t shift = p.shift_in(head);
  const int64_t segment = (i0 + shift) / p.group * p.group - shift;
  const int64_t start = std::max<int64_t>(segment, 0), end = segment + p.group;
  const bool rolled = p.wrap == Wrap::roll_leaky && shift > 0;
  // Where a rolled head wraps, its last and first half segments are one.
  const bool first_half = rolled && segment < 0, last_half = rolled && end > n;
  const int64_t from_start = last_half && !p.causal ? std::max(shift, p.sinks) : p.sinks;
  add(0, std::min(from_start, start), KeyRule::all);
  if (!p.causal) {
    add(start, end, KeyRule::all);
    add(end, std::min(p.sinks, first_half ? n - shift : n), KeyRule::all);
  }
  if (first_half) add(std::max(end, n - shift), n, KeyRule::all);
  if (p.causal) add(start, i1, KeyRule::causal);
}

void strided_ranges(const AttentionPattern& p, int64_t i0, int64_t i1, std::vector<KeyRange>& out) {
  const int64_t l = p.group, band = std::max<int64_t>(0, i0 - l + 1);
  if (i1 - i0 >= l) return out.push_back({0, i1, KeyRule::partial});
  for (int64_t m = i0 / l + 1; m >= 1; --m) {
    const int64_t begin = std::max<int64_t>(0, i0 - m * l), end = std::min(i1 - m * l, band);
    if (begin < end) out.push_back({begin, end, KeyRule::partial});
  }
  out.push_back({band, i1, KeyRule::partial});
}

void ranges_inside(const AttentionPattern& p, int64_t head, int64_t i0, int64_t i1, int64_t n,
                   std::vector<KeyRange>& out) {
  const int64_t start = p.group > 0 ? i0 / p.group * p.group : 0;
  switch (p.kind) {
    case PatternKind::full:
      out.push_back(p.causal ? KeyRange{0, i1, KeyRule::causal} : KeyRange{0, n, KeyRule::all});
      return;
    case PatternKind::segments:
      return segment_ranges(p, head, i0, i1, n, out);
    case PatternKind::strided:
      return strided_ranges(p, i0, i1, out);
    case PatternKind::fixed:
      for (int64_t block = p.group; block <= start; block += p.group)
        out.push_back({block - p.summary, block, KeyRule::all});
      break;
    case PatternKind::random:
      if (start > 0 && start <= p.random_keys) out.push_back({0, start, KeyRule::all});
      for (int64_t r = 0; start > p.random_keys && r < p.random_keys; ++r) {
        const int64_t key = drawn_key(p, head, start, r);
        out.push_back({key, key + 1, KeyRule::all});
      }
      break;
  }
  out.push_back({start, i1, KeyRule::causal});
}

// The same of a sequence that is at hand as a whole.
int64_t pane_end_in_whole(const AttentionPattern& p, int64_t head, int64_t i, int64_t n) {
  const auto [begin, end] = document_in_whole(p, i, n);
  return begin + pane_end_inside(p, head, i - begin, end - begin);
}
void ranges_in_whole(const AttentionPattern& p, int64_t head, int64_t i0, int64_t i1, int64_t n,
                     std::vector<KeyRange>& out) {
  out.clear();
  const auto [begin, end] = document_in_whole(p, i0, n);
  ranges_inside(p, head, i0 - begin, i1 - begin, end - begin, out);
  for (KeyRange& range : out) {
    range.begin += begin;
    range.end += begin;
  }
}

}  // namespace

int64_t pane_end(const AttentionPattern& p, int64_t head, int64_t i, int64_t n) {
  if (p.held.empty()) return pane_end_in_whole(p, head, i, n);
  return held_before(p, pane_end_in_whole(p, head, in_whole(p, i), p.length));
}

void key_ranges(const AttentionPattern& p, int64_t head, int64_t i0, int64_t i1, int64_t n,
                std::vector<KeyRange>& out) {
  if (p.held.empty()) return ranges_in_whole(p, head, i0, i1, n, out);
  const int64_t first = in_whole(p, i0);
  ranges_in_whole(p, head, first, first + i1 - i0, p.length, out);
  for (KeyRange& range : out) {
    range.begin = held_before(p, range.begin);
    range.end = held_before(p, range.end);
  }
  std::erase_if(out, [](const KeyRange& range) { return range.begin == range.end; });
}

int64_t visible_pairs(const AttentionPattern& p, int64_t head, int64_t n) {
  int64_t pairs = 0;
  if (p.kind == PatternKind::strided) {
    for (int64_t t = 0; t < n; ++t) {
      const int64_t i = t - document_in_whole(p, t, n).begin;
      pairs += std::min(i + 1, p.group) + (i >= p.group ? i / p.group : 0);
    }
    return pairs;
  }
  std::vector<KeyRange> ranges;
  for (int64_t i0 = 0; i0 < n;) {
    const int64_t i1 = pane_end_in_whole(p, head, i0, n), queries = i1 - i0;
    ranges_in_whole(p, head, i0, i1, n, ranges);
    for (const KeyRange& r : ranges) {
      pairs += queries * (r.end - r.begin);
      if (r.rule == KeyRule::causal) pairs -= queries * (queries - 1) / 2;
    }
    i0 = i1;
  }
  return pairs;
}

double visible_fraction(const AttentionPattern& p, int64_t n) {
  double sum = 0;
  for (int64_t head = 0; head < p.n_heads; ++head)
    sum += static_cast<double>(visible_pairs(p, head, n));
  const double full = static_cast<double>(n) * static_cast<double>(p.causal ? n + 1 : 2 * n) / 2;
  return sum / (full * static_cast<double>(p.n_heads));
}

}  // namespace mullion
