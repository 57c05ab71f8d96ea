// Heads compared by what they see, and the checks that all devices make of an attention's sizes.
#include "tensor/attention_groups.h"

#include <algorithm>

#include "tensor/check.h"

namespace mullion {

std::vector<HeadGroup> head_groups(const AttentionSizes& s, int64_t max_heads) {
  std::vector<HeadGroup> groups;
  const int64_t share = s.H / s.Hkv;
  for (int64_t b = 0; b < s.B; ++b)
    for (int64_t kv = 0; kv < s.Hkv; ++kv) {
      int64_t rank = 0;
      for (int64_t h = kv * share, end; h < (kv + 1) * share; h = end) {
        const int64_t most = std::min(max_heads, (kv + 1) * share - h);
        for (end = h + 1; end < h + most && same_view(*s.pattern, h, end);) ++end;
        groups.push_back({b, kv, h, end - h, rank++});
      }
    }
  return groups;
}

void check_attention_sizes(const AttentionSizes& s, bool backward) {
  CHECK(s.B > 0 && s.T > 0 && s.S > 0 && s.D > 0 && s.Hkv > 0 && s.H % s.Hkv == 0, "attention: B ",
        s.B, ", T ", s.T, ", S ", s.S, ", H ", s.H, ", Hkv ", s.Hkv, ", D ", s.D,
        ": sizes must be positive and Hkv must divide H");
  CHECK(s.S < (int64_t{1} << 31), "attention: ", s.S, " keys are too many");
  DCHECK(s.pattern != nullptr);
  const AttentionPattern& p = *s.pattern;
  CHECK(p.kind == PatternKind::full || p.group > 0, "attention: a pattern with groups of ",
        p.group);
  CHECK(p.kind == PatternKind::full || p.n_heads == s.H, "attention: a pattern for ", p.n_heads,
        " heads used with ", s.H);
  const bool part = !p.held.empty(), self = part || (s.query_offset == 0 && s.T == s.S);
  const int64_t tokens = part ? p.length : s.S;  // of the whole sequence
  CHECK(!part || (p.held.back().at + p.held.back().end - p.held.back().begin == s.S &&
                  p.held.back().end <= p.length),
        "attention: a pattern for other keys than these ", s.S, ", of ", p.length, " tokens");
  CHECK(!p.causal || (s.query_offset >= 0 && s.query_offset + s.T <= s.S), "attention: ", s.T,
        " queries from position ", s.query_offset, " but ", s.S, " keys");
  CHECK(p.wrap == Wrap::split || (self && p.context == tokens), "attention: a rolled pattern for ",
        p.context, " tokens used with ", s.T, " queries and ", s.S, " keys");
  CHECK(p.documents.empty() || (self && s.B == 1 && p.wrap == Wrap::split), "attention: documents ",
        "of one packed sequence, not of ", s.B, " of ", s.T, " queries and ", s.S,
        " keys, and not rolled");
  for (size_t i = 0; i < p.documents.size(); ++i)
    CHECK(i == 0 ? p.documents[0] == 0
                 : p.documents[i] > p.documents[i - 1] && p.documents[i] < tokens,
          "attention: document ", i, " begins at ", p.documents[i], " of ", tokens, " tokens");
  CHECK(!backward || (p.causal ? self : part || s.query_offset == 0), "attention: backward of ",
        s.T, " queries from position ", s.query_offset, " over ", s.S, " keys is not supported");
}

void check_column_sums(const AttentionForwardArgs& args) {
  if (args.column_sums == nullptr) return;
  CHECK(args.lse != nullptr, "attention: column sums without lse");
  CHECK(args.sums_from >= 0 && args.sums_from < args.size.T, "attention: column sums from query ",
        args.sums_from, " of ", args.size.T);
}

}  // namespace mullion
