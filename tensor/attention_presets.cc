// The named patterns of SinkLoRA's tables 7 to 9, in LongLoRA's sizes: G = context / 4, shift G/2,
// 4 sinks. The variants of table 9 are known by name only; their sizes here give all queries
// together about as many keys as under S2 (fill_variant).
#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>

#include "tensor/attention_pattern.h"
#include "tensor/check.h"

namespace mullion {

namespace {

struct Preset {
  std::string name;
  PatternKind kind;
  Wrap wrap;
  double shifted_in, shifted_out;  // fraction of the heads
  int64_t sinks;
};

const std::vector<Preset>& presets() {
  using enum PatternKind;
  using enum Wrap;
  static const std::vector<Preset> table = {
      {"full", full, split, 0, 0, 0},
      {"s2", segments, split, 0.5, 0.5, 0},
      {"s2-global", segments, split, 0.5, 0.5, 4},
      {"s2-sr", segments, split, 0.25, 0.25, 0},
      {"shift-up-only", segments, roll_leaky, 0.25, 0.5, 0},
      {"shift-back-only", segments, roll_leaky, 0.5, 0.25, 0},
      {"sf", segments, split, 0.25, 0.25, 4},
      {"s2-leaky", segments, roll_leaky, 0.5, 0.5, 0},
      {"sf-leaky", segments, roll_leaky, 0.25, 0.25, 4},
      {"fixed", fixed, split, 0, 0, 0},
      {"strided", strided, split, 0, 0, 0},
      {"random", random, split, 0, 0, 0},
  };
  return table;
}

const Preset& find_preset(const std::string& name) {
  for (const Preset& preset : presets())
    if (preset.name == name) return preset;
  std::string known;
  for (const Preset& preset : presets()) known += (known.empty() ? "" : ", ") + preset.name;
  fail(Fault::usage, "attention: unknown pattern '", name, "', known are: ", known);
}

int64_t group_of(const PatternOptions& o, bool even) {
  if (o.group_size != 0) {
    CHECK_AS(Fault::usage, o.group_size > 0, "attention: group size ", o.group_size,
             " is not positive");
    return o.group_size;
  }
  CHECK_AS(Fault::usage, o.group_ratio > 0 && o.group_ratio <= 1, "attention: group ratio ",
           o.group_ratio, " is not in (0, 1]");
  const auto group = static_cast<int64_t>(static_cast<double>(o.context) * o.group_ratio);
  return even ? std::max<int64_t>(2, group / 2 * 2) : std::max<int64_t>(1, group);
}

int64_t first_shifted(int64_t n_heads, double fraction) {
  return static_cast<int64_t>(std::floor(static_cast<double>(n_heads) * (1 - fraction) + 1e-9));
}

void check_segments(const std::string& name, const AttentionPattern& p) {
  CHECK_AS(Fault::usage, p.group % 2 == 0, "attention: ", name, ": group size ", p.group,
           " is odd, but half a group is the shift");
  CHECK_AS(Fault::usage, p.sinks <= p.group, "attention: ", name, ": ", p.sinks,
           " sinks do not fit into a group of ", p.group);
  CHECK_AS(Fault::usage, p.wrap == Wrap::split || p.context % p.group == 0, "attention: ", name,
           ": groups of ", p.group, " do not divide a context of ", p.context,
           ", which the roll needs");
}

// About as many pairs in all as S2 has: a token of a segment of G sees half of it in the mean. With
// small groups in a long context fixed and strided cannot see so few: beside its own block or
// stride a token has a key of each before, of which there are the more the smaller they are. They
// then have the group with which they see the fewest.
void fill_variant(AttentionPattern& p) {
  const int64_t budget = p.group;
  const auto root = [](int64_t n) {  // in blocks of 1 all would see all
    return std::max<int64_t>(2, static_cast<int64_t>(std::sqrt(static_cast<double>(n))));
  };
  p.group = std::max<int64_t>(1, budget / 2);
  if (p.kind == PatternKind::strided) {  // in the mean context / (2 group) keys lie before the last
    p.group = std::max(root(p.context / 2), p.group - p.context / budget);
    return;
  }
  if (p.kind == PatternKind::fixed) p.group = std::max(root(p.context), p.group);
  p.summary = std::clamp<int64_t>(p.group * p.group / p.context, 1, p.group);
  p.random_keys = std::max<int64_t>(1, budget / 4);
}

}  // namespace

const std::vector<std::string>& pattern_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Preset& preset : presets()) list.push_back(preset.name);
    return list;
  }();
  return names;
}

AttentionPattern make_pattern(const std::string& name, const PatternOptions& o) {
  const Preset& preset = find_preset(name);
  const bool segments = preset.kind == PatternKind::segments;
  CHECK_AS(Fault::usage, o.n_heads > 0 && o.context > 0, "attention: ", name, ": ", o.n_heads,
           " heads and a context of ", o.context, " must be positive");
  CHECK_AS(Fault::usage, segments || o.sinks <= 0, "attention: ", name, " has no sinks, but ",
           o.sinks, " are asked for");
  CHECK_AS(Fault::usage, o.shift_fraction <= 1, "attention: ", name, ": a fraction of ",
           o.shift_fraction, " of the heads cannot be shifted");
  AttentionPattern p;
  p.n_heads = o.n_heads;
  p.context = o.context;
  p.seed = o.seed;
  p.first_shifted_in = p.first_shifted_out = o.n_heads;
  if (preset.kind == PatternKind::full) return p;
  p.group = group_of(o, segments);
  if (o.context <= p.group) {
    p.group = 0;
    return p;  // one group: full causal
  }
  p.kind = preset.kind;
  if (!segments) {
    fill_variant(p);
    return p;
  }
  p.wrap = preset.wrap;
  p.shift = p.group / 2;
  p.sinks = o.sinks >= 0 ? o.sinks : preset.sinks;
  const bool own = o.shift_fraction < 0 || preset.shifted_in != preset.shifted_out;
  p.first_shifted_in = first_shifted(o.n_heads, own ? preset.shifted_in : o.shift_fraction);
  p.first_shifted_out = first_shifted(o.n_heads, own ? preset.shifted_out : o.shift_fraction);
  check_segments(name, p);
  return p;
}

namespace {

// "heads 6..8 of 9 shifted by 512 (33.3 %)"
void describe_shift(std::ostream& out, const AttentionPattern& p, int64_t first, const char* verb) {
  if (first >= p.n_heads) {
    out << ", no head " << verb;
    return;
  }
  out << ", heads " << first << ".." << p.n_heads - 1 << " of " << p.n_heads << ' ' << verb
      << " by " << p.shift << " ("
      << 100.0 * static_cast<double>(p.n_heads - first) / static_cast<double>(p.n_heads) << " %)";
}

void describe_segments(std::ostream& out, const AttentionPattern& p) {
  out << "segments of " << p.group;
  describe_shift(out, p, p.first_shifted_in, "shifted");
  if (p.first_shifted_out != p.first_shifted_in)
    describe_shift(out, p, p.first_shifted_out, "shifted back");
  if (p.wrap == Wrap::roll_leaky)
    out << ", wrapping around: the first " << p.shift << " tokens see their future";
  out << ", " << p.sinks << (p.sinks == 1 ? " sink" : " sinks");
  if (p.sink_query_noncausal) out << " that see the whole sequence";
}

}  // namespace

std::string describe(const AttentionPattern& p) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1);
  switch (p.kind) {
    case PatternKind::full:
      return p.causal ? "full causal attention" : "full attention, not causal";
    case PatternKind::segments:
      describe_segments(out, p);
      break;
    case PatternKind::fixed:
      out << "blocks of " << p.group << " and the last " << p.summary
          << (p.summary == 1 ? " key" : " keys") << " of earlier ones";
      break;
    case PatternKind::strided:
      out << "the last " << p.group << " keys and every " << p.group << "th before";
      break;
    case PatternKind::random:
      out << "blocks of " << p.group << " and " << p.random_keys << " random keys before, seed "
          << p.seed;
      break;
  }
  out << ", " << 100 * visible_fraction(p, p.context) << " % of full attention's pairs at "
      << p.context << " tokens";
  return out.str();
}

}  // namespace mullion
