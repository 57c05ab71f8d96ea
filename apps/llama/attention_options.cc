// From the options to a pattern at a context; which presets an option counts for is asked of them.
#include "apps/llama/attention_options.h"

#include "tensor/check.h"

namespace mullion {

namespace {
// The presets whose pattern has this property, at sizes that show it.
std::vector<std::string> patterns_where(bool (*has)(const AttentionPattern&)) {
  PatternOptions sizes;
  sizes.n_heads = 8;
  sizes.context = 1024;
  std::vector<std::string> names;
  for (const std::string& name : pattern_names())
    if (has(make_pattern(name, sizes))) names.push_back(name);
  return names;
}
}  // namespace

void add_attention_options(OptionTable& table, const std::string& preset) {
  table.add("attention.kind", "--attn", preset, "who sees whom").one_of(pattern_names());
  table.add("attention.group_ratio", "--group-ratio", 0.25, "group as a part of the context")
      .range(1e-9, 1)
      .not_with("attention.kind", {"full"})
      .not_with("attention.group_size");
  table.add("attention.group_size", "--group-size", 0, "group in tokens; 0: by the ratio")
      .not_with("attention.kind", {"full"});
  table
      .add_optional<int64_t>("attention.sinks", "--sinks",
                             "first tokens that all see (unset: the preset's)")
      .only_with("attention.kind", patterns_where([](const AttentionPattern& p) {
                   return p.kind == PatternKind::segments;
                 }));
  table
      .add_optional<double>("attention.shift_heads", "--shift-heads",
                            "part of the heads that is shifted (unset: the preset's)")
      .range(0, 1)
      // Where the two shifts are of different heads, they are what the preset is about.
      .only_with("attention.kind", patterns_where([](const AttentionPattern& p) {
                   return p.kind == PatternKind::segments &&
                          p.first_shifted_in == p.first_shifted_out;
                 }));
}

AttentionPattern attention_pattern(const Options& options, int64_t heads, int64_t context) {
  PatternOptions o;
  o.n_heads = heads;
  o.context = context;
  o.group_ratio = options.get<double>("attention.group_ratio");
  o.group_size = options.get<int64_t>("attention.group_size");
  CHECK_AS(Fault::usage, o.group_size <= context, "--group-size ", o.group_size,
           " does not fit a context of ", context);
  if (options.has("attention.sinks")) o.sinks = options.get<int64_t>("attention.sinks");
  if (options.has("attention.shift_heads"))
    o.shift_fraction = options.get<double>("attention.shift_heads");
  o.seed = options.seed();
  return make_pattern(options.get<std::string>("attention.kind"), o);
}

}  // namespace mullion
