// Patterns against the counts and the equivalences of LongLoRA and SinkLoRA, and the ranges that
// kernels use against the definition, pair by pair.
#include "tensor/attention_pattern.h"

#include <gtest/gtest.h>

#include <set>

#include "tensor/check.h"

namespace mullion {
namespace {

AttentionPattern small(const std::string& name, int64_t sinks = -1, int64_t heads = 4) {
  PatternOptions options;
  options.n_heads = heads;
  options.context = 16;
  options.group_size = 4;
  options.sinks = sinks;
  return make_pattern(name, options);
}

AttentionPattern made(const std::string& name, int64_t heads, int64_t context, int64_t group = 0,
                      uint64_t seed = 0) {
  PatternOptions options;
  options.n_heads = heads;
  options.context = context;
  options.group_size = group;
  options.seed = seed;
  return make_pattern(name, options);
}

int64_t future_pairs(const AttentionPattern& p, int64_t head, int64_t n) {
  int64_t pairs = 0;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = i + 1; j < n; ++j) pairs += visible(p, head, i, j);
  return pairs;
}

int64_t counted_pairs(const AttentionPattern& p, int64_t head, int64_t n) {
  int64_t pairs = 0;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) pairs += visible(p, head, i, j);
  return pairs;
}

TEST(AttentionPattern, CountsOfSixteenTokensInGroupsOfFour) {
  const AttentionPattern split = small("sf", 2), leaky = small("sf-leaky", 2);
  EXPECT_EQ(visible_pairs(split, 0, 16), 64);
  EXPECT_EQ(visible_pairs(split, 3, 16), 64);
  EXPECT_EQ(visible_pairs(leaky, 0, 16), 64);
  EXPECT_EQ(visible_pairs(leaky, 3, 16), 68);
  EXPECT_EQ(future_pairs(leaky, 3, 16), 4);
  EXPECT_EQ(future_pairs(split, 3, 16), 0);
  const AttentionPattern s2 = small("s2"), s2_leaky = small("s2-leaky");
  EXPECT_EQ(visible_pairs(s2, 0, 16), 40);
  EXPECT_EQ(visible_pairs(s2, 3, 16), 36);
  EXPECT_EQ(visible_pairs(s2_leaky, 3, 16), 40);
  EXPECT_EQ(future_pairs(s2_leaky, 3, 16), 4);
}

TEST(AttentionPattern, FutureOfTheRollIsTheSquareOfTheShift) {
  const AttentionPattern p = made("s2-leaky", 2, 64, 16);
  EXPECT_EQ(future_pairs(p, 1, 64), 8 * 8);
  EXPECT_EQ(future_pairs(p, 0, 64), 0);
}

TEST(AttentionPattern, OneGroupIsFullCausal) {
  for (const std::string& name : pattern_names()) {
    const AttentionPattern p = made(name, 4, 12, 12);
    for (int64_t h = 0; h < 4; ++h)
      for (int64_t i = 0; i < 12; ++i)
        for (int64_t j = 0; j < 12; ++j) EXPECT_EQ(visible(p, h, i, j), j <= i) << name;
  }
}

// LongLoRA's flash version: cu_seqlens [0, G, 2G, ...] and [0, s, s+G, ...], causal inside.
TEST(AttentionPattern, S2IsTheSegmentListOfLongLora) {
  for (const int64_t n : {16, 22, 37}) {
    const AttentionPattern p = made("s2", 2, n, 8);
    for (const int64_t head : {0, 1}) {
      std::vector<int64_t> borders = {0};
      for (int64_t b = head == 0 ? 8 : 4; b < n; b += 8) borders.push_back(b);
      borders.push_back(n);
      for (size_t s = 0; s + 1 < borders.size(); ++s)
        for (int64_t i = borders[s]; i < borders[s + 1]; ++i)
          for (int64_t j = 0; j < n; ++j)
            EXPECT_EQ(visible(p, head, i, j), j >= borders[s] && j <= i)
                << n << ' ' << i << ' ' << j;
    }
  }
}

// LongLoRA's version without flash: roll by -s, groups with a triangular mask, roll back.
TEST(AttentionPattern, LeakyS2IsTheRollOfLongLora) {
  constexpr int64_t N = 24, G = 8, s = 4;
  const AttentionPattern p = made("s2-leaky", 2, N, G);
  for (int64_t a = 0; a < N; ++a)
    for (int64_t b = 0; b < N; ++b) {
      const bool triangle = a / G == b / G && b <= a;
      EXPECT_EQ(visible(p, 1, (a + s) % N, (b + s) % N), triangle);
      EXPECT_EQ(visible(p, 0, a, b), triangle);
    }
  for (int64_t i = 0; i < N; ++i) EXPECT_EQ(output_row(p, 1, i), i);
}

TEST(AttentionPattern, OneSidedShiftsMoveOutputsOfAQuarterOfTheHeads) {
  const AttentionPattern up = small("shift-up-only"), back = small("shift-back-only");
  for (int64_t i = 0; i < 16; ++i) {
    EXPECT_EQ(output_row(up, 1, i), i);
    EXPECT_EQ(output_row(up, 2, i), (i + 2) % 16);  // rolled back without having been rolled
    EXPECT_EQ(output_row(up, 3, i), i);
    EXPECT_EQ(output_row(back, 2, i), (i + 14) % 16);  // rolled and left there
    EXPECT_EQ(output_row(back, 3, i), i);
  }
}

TEST(AttentionPattern, ShiftedHeadsOfThePresets) {
  const auto first = [](const std::string& name, int64_t heads) {
    return small(name, -1, heads).first_shifted_in;
  };
  EXPECT_EQ(first("s2", 32), 16);
  EXPECT_EQ(first("s2-global", 32), 16);
  EXPECT_EQ(first("s2-sr", 32), 24);
  EXPECT_EQ(first("sf", 32), 24);
  EXPECT_EQ(first("sf", 9), 6);
  EXPECT_EQ(first("s2", 9), 4);
  EXPECT_EQ(small("shift-up-only", -1, 32).first_shifted_out, 16);
  EXPECT_EQ(small("shift-back-only", -1, 32).first_shifted_out, 24);
  EXPECT_EQ(small("sf").sinks, 4);
  EXPECT_EQ(small("s2").sinks, 0);
}

// What the ranges of queries [i0, i1) must be: disjoint, ordered, and exactly what is visible.
void check_block(const AttentionPattern& p, int64_t head, int64_t i0, int64_t i1, int64_t n,
                 const std::string& what) {
  std::vector<KeyRange> ranges;
  key_ranges(p, head, i0, i1, n, ranges);
  std::vector<int> held(static_cast<size_t>(n), 0);
  int64_t last[3] = {-1, -1, -1};
  bool causal_seen = false;
  for (const KeyRange& r : ranges) {
    EXPECT_FALSE(causal_seen && r.rule == KeyRule::all) << what;
    causal_seen |= r.rule == KeyRule::causal;
    EXPECT_GE(r.begin, last[static_cast<int>(r.rule)]) << what;
    last[static_cast<int>(r.rule)] = r.end;
    for (int64_t j = r.begin; j < r.end; ++j) {
      ++held[static_cast<size_t>(j)];
      for (int64_t i = i0; i < i1 && r.rule != KeyRule::partial; ++i)
        EXPECT_EQ(visible(p, head, i, j), r.rule == KeyRule::all || j <= i)
            << what << " head " << head << " query " << i << " key " << j;
    }
  }
  for (int64_t j = 0; j < n; ++j) {
    EXPECT_LE(held[static_cast<size_t>(j)], 1) << what;
    for (int64_t i = i0; i < i1 && held[static_cast<size_t>(j)] == 0; ++i)
      EXPECT_FALSE(visible(p, head, i, j)) << what << ' ' << head << ' ' << i << ' ' << j;
  }
}

void check_ranges(const AttentionPattern& p, int64_t n, const std::string& what) {
  for (int64_t head = 0; head < p.n_heads; ++head) {
    EXPECT_EQ(visible_pairs(p, head, n), counted_pairs(p, head, n)) << what << " head " << head;
    for (int64_t pane = 0, end; pane < n; pane = end) {
      end = pane_end(p, head, pane, n);
      ASSERT_GT(end, pane);
      for (int64_t i0 = pane; i0 < end; i0 += 3)
        check_block(p, head, i0, std::min(end, i0 + 3), n, what);
    }
  }
}

TEST(AttentionPattern, RangesHoldTheVisibleKeys) {
  for (const std::string& name : pattern_names())
    for (const int64_t group : {4, 6, 8}) {
      const AttentionPattern p = made(name, 5, 24, group, 3);
      check_ranges(p, 24, name);
      if (p.wrap == Wrap::split) check_ranges(p, 19, name + " shorter");
      AttentionPattern open = p;
      open.causal = false;
      if (p.kind == PatternKind::full || p.kind == PatternKind::segments)
        check_ranges(open, 24, name + " not causal");
      open = p;
      open.sink_query_noncausal = true;
      if (p.kind == PatternKind::segments) check_ranges(open, 24, name + " open sinks");
    }
}

// A packed document sees what it sees alone, wherever it stands.
TEST(AttentionPattern, DocumentsAreSeenAsIfAlone) {
  for (const std::string& name : pattern_names()) {
    AttentionPattern p = made(name, 5, 24, 8, 3);
    if (p.wrap != Wrap::split) continue;
    const AttentionPattern alone = p;
    p.documents = {0, 1, 8, 19, 20};
    check_ranges(p, 43, name + " packed");
    for (int64_t head = 0; head < 5; ++head)
      for (int64_t i = 0; i < 43; ++i)
        for (int64_t j = 0; j < 43; ++j) {
          const auto [begin, end] = document_at(p, i, 43);
          const bool inside = j >= begin && j < end;
          EXPECT_EQ(visible(p, head, i, j), inside && visible(alone, head, i - begin, j - begin))
              << name << ' ' << head << ' ' << i << ' ' << j;
        }
  }
}

TEST(AttentionPattern, RandomKeysAreAsManyAsAskedAndFollowTheSeed) {
  const AttentionPattern p = made("random", 2, 256, 32, 7);
  const auto keys = [&](const AttentionPattern& a, int64_t head, int64_t i) {
    std::set<int64_t> seen;
    for (int64_t j = 0; j < i / a.group * a.group; ++j)
      if (visible(a, head, i, j)) seen.insert(j);
    return seen;
  };
  EXPECT_EQ(static_cast<int64_t>(keys(p, 0, 255).size()), p.random_keys);
  EXPECT_EQ(keys(p, 0, 255), keys(made("random", 2, 256, 32, 7), 0, 255));
  EXPECT_NE(keys(p, 0, 255), keys(p, 1, 255));
  EXPECT_NE(keys(p, 0, 255), keys(made("random", 2, 256, 32, 8), 0, 255));
}

TEST(AttentionPattern, VariantsSeeAsManyPairsAsS2) {
  for (const int64_t n : {512, 2048, 8192})
    for (const std::string name : {"fixed", "strided", "random"})
      EXPECT_NEAR(visible_fraction(made(name, 8, n), n) / visible_fraction(made("s2", 8, n), n), 1,
                  0.05)
          << name << ' ' << n;
  // A stride of 1 would be full attention; of the root of 4096 it is 64 keys and 64 others.
  EXPECT_LT(4096 * visible_fraction(made("strided", 1, 8192, 64), 8192), 130);
  // So would blocks of 1; of the root of 8192, 45 of the own block in the mean and as many others.
  for (const int64_t group : {2, 3, 64})
    EXPECT_LT(4096 * visible_fraction(made("fixed", 1, 8192, group), 8192), 92) << group;
  for (int64_t n = 4; n < 40; ++n)
    for (const std::string name : {"fixed", "strided", "random"})
      EXPECT_LT(visible_fraction(made(name, 1, n, 2), n), 1) << name << ' ' << n;
}

TEST(AttentionPattern, FractionsOfFullAttention) {  // LongLoRA's ratio, 32 heads
  const auto saving = [](const std::string& name, int64_t n) {
    return 1 / visible_fraction(made(name, 32, n), n);
  };
  EXPECT_NEAR(saving("sf", 8192), 4.115, 0.002);
  EXPECT_NEAR(saving("sf", 32768), 4.125, 0.002);
  EXPECT_NEAR(saving("s2", 32768), 4.27, 0.005);
  EXPECT_NEAR(saving("s2-leaky", 32768), 4.0, 0.002);
}

TEST(AttentionPattern, RefusesWhatDoesNotFit) {
  struct Refusal {
    std::string name;
    PatternOptions options;
    std::string says;
  };
  const auto options = [](int64_t heads, int64_t context, int64_t group, double ratio = 0.25,
                          int64_t sinks = -1) {
    PatternOptions o;
    o.n_heads = heads, o.context = context, o.group_size = group;
    o.group_ratio = ratio, o.sinks = sinks;
    return o;
  };
  const std::vector<Refusal> refusals = {
      {"s3", options(4, 16, 0), "known are: full, "},
      {"s2", options(4, 16, 5), "5 is odd"},
      {"s2-leaky", options(4, 18, 4), "do not divide a context of 18"},
      {"sf", options(4, 16, 2), "4 sinks do not fit"},
      {"sf", options(4, 16, -2), "-2 is not positive"},
      {"sf", options(4, 16, 0, 0.0), "ratio 0 is not"},
      {"full", options(4, 16, 0, 0.25, 2), "has no sinks"},
      {"full", options(0, 16, 0), "0 heads"},
  };
  for (const Refusal& r : refusals) {
    try {
      make_pattern(r.name, r.options);
      ADD_FAILURE() << r.name << " accepted, expected: " << r.says;
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::usage);
      EXPECT_NE(std::string(error.what()).find(r.says), std::string::npos) << error.what();
    }
  }
}

TEST(AttentionPattern, DescribesItself) {
  EXPECT_EQ(describe(made("sf", 9, 4096)),
            "segments of 1024, heads 6..8 of 9 shifted by 512 (33.3 %), 4 sinks, 24.1 % of full "
            "attention's pairs at 4096 tokens");
  EXPECT_EQ(describe(made("full", 9, 4096)), "full causal attention");
  for (const std::string& name : pattern_names()) EXPECT_FALSE(describe(small(name)).empty());
}

}  // namespace
}  // namespace mullion
