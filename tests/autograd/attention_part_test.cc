// Attention by parts under every pattern on the CPU: attention_part.h says against what.
#include "tests/attention_part.h"

#include "tensor/parallel.h"

namespace mullion {
namespace {

using test::check_parts;

AttentionPattern pattern_of(const std::string& name, int64_t tokens, int64_t group) {
  return make_pattern(name, {.n_heads = 4, .context = tokens, .group_size = group, .seed = 3});
}

TEST(AttentionPart, IsThatOfTheWholeUnderEveryPattern) {
  for (const char* name : {"full", "s2", "s2-sr", "sf", "fixed", "strided", "random"})
    for (const auto& [tokens, group] : {std::pair<int64_t, int64_t>{48, 12}, {53, 8}, {9, 4}})
      for (const int64_t kv_heads : {1, 2, 4})
        check_parts({.pattern = pattern_of(name, tokens, group), .sizes = {tokens, 4, kv_heads}},
                    concat(name, " of ", tokens, ", ", kv_heads, " key heads"));
  for (const char* name : {"s2-leaky", "sf-leaky"})
    check_parts({.pattern = pattern_of(name, 48, 8), .sizes = {48, 4, 2}}, name);
}

TEST(AttentionPart, OfPackedDocumentsToo) {
  for (const char* name : {"full", "s2", "sf", "fixed", "strided", "random"}) {
    AttentionPattern p = pattern_of(name, 40, 8);
    for (const auto& documents :
         std::vector<std::vector<int64_t>>{{0, 20}, {0, 1, 5, 17, 39}, {0, 13}}) {
      p.documents = documents;
      check_parts({.pattern = p, .sizes = {40, 4, 2}}, name);
    }
  }
}

TEST(AttentionPart, WithThreadsAsWithOne) {
  const int before = num_threads();
  set_num_threads(3);
  for (const char* name : {"full", "sf"})
    check_parts({.pattern = pattern_of(name, 150, 40), .sizes = {150, 4, 2}}, name);
  set_num_threads(before);
}

TEST(AttentionPart, WithoutCausality) {
  for (const char* name : {"full", "s2", "sf"}) {
    AttentionPattern p = pattern_of(name, 40, 8);
    p.causal = false;
    check_parts({.pattern = p, .sizes = {40, 4, 2}}, name);
  }
}

}  // namespace
}  // namespace mullion
