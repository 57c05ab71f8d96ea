// Plans of context parallelism against the definition of patterns, pair by pair, and against the
// formula for the bytes of SF and S2.
#include "tensor/context_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iomanip>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <tuple>

#include "tensor/check.h"
#include "tests/source_dir.h"

namespace mullion {
namespace {

AttentionPattern pattern_of(const std::string& name, int64_t heads, int64_t context,
                            int64_t group) {
  const bool has_sinks = name.find("sf") == 0 || name == "s2-global";
  return make_pattern(name, {.n_heads = heads,
                             .context = context,
                             .group_size = group,
                             .sinks = has_sinks ? std::min<int64_t>(4, group) : -1,
                             .seed = 5});
}

using Row = std::pair<int64_t, int64_t>;  // token, key head
std::set<Row> rows_in(const std::vector<KeyTransfer>& transfers, int64_t peer) {
  std::set<Row> rows;
  for (const KeyTransfer& transfer : transfers) {
    if (transfer.peer != peer) continue;
    for (const KeyBox& box : transfer.boxes)
      for (int64_t token = box.begin; token < box.end; ++token)
        for (int64_t head = box.first_head; head < box.end_head; ++head)
          EXPECT_TRUE(rows.insert({token, head}).second) << "a row travels twice";
  }
  return rows;
}

bool has(const std::vector<TokenSpan>& spans, int64_t token) {
  for (const TokenSpan& span : spans)
    if (token >= span.begin && token < span.end) return true;
  return false;
}

// By visible() alone: what `from` has to send to `to`.
std::set<Row> rows_by_definition(const AttentionPattern& p, const ContextSizes& sizes,
                                 const std::vector<TokenSpan>& to,
                                 const std::vector<TokenSpan>& from) {
  std::set<Row> rows;
  for (int64_t head = 0; head < sizes.heads; ++head)
    for (int64_t i = 0; i < sizes.tokens; ++i)
      for (int64_t j = 0; j < sizes.tokens; ++j)
        if (has(to, i) && has(from, j) && visible(p, head, i, j))
          rows.insert({j, head / (sizes.heads / sizes.kv_heads)});
  return rows;
}

// Every rank of every layout of a small sequence.
void check_plans(const AttentionPattern& p, const ContextSizes& sizes, const std::string& what) {
  for (const int64_t ranks : {1, 2, 3, 4, 5}) {
    if (sizes.tokens < ranks) continue;
    std::vector<ContextLayout> layouts = {contiguous_layout(sizes.tokens, ranks)};
    if (sizes.tokens >= 2 * ranks) layouts.push_back(zigzag_layout(sizes.tokens, ranks));
    for (const ContextLayout& layout : layouts) {
      std::vector<ContextPart> parts;
      for (int64_t rank = 0; rank < ranks; ++rank)
        parts.push_back(context_part(p, sizes, layout, rank));
      for (int64_t to = 0; to < ranks; ++to)
        for (int64_t from = 0; from < ranks; ++from) {
          if (from == to) continue;
          const auto at = [](auto& list, int64_t i) -> auto& {
            return list[static_cast<size_t>(i)];
          };
          const std::set<Row> wanted =
              rows_by_definition(p, sizes, at(layout, to), at(layout, from));
          ASSERT_EQ(rows_in(at(parts, to).receives, from), wanted)
              << what << ", " << sizes.tokens << " tokens, " << ranks << " ranks, " << from
              << " to " << to;
          ASSERT_EQ(rows_in(at(parts, from).sends, to), wanted);
        }
      // What is held is what is seen, in order, and own rows are there whole.
      for (const ContextPart& part : parts) {
        int64_t at = 0, last = -1;
        for (const HeldSpan& span : part.held) {
          ASSERT_GT(span.begin, last);
          ASSERT_EQ(span.at, at);
          at += span.end - span.begin;
          last = span.end;
        }
        for (const TokenSpan& span : part.own)
          ASSERT_EQ(place_of(part, span.end - 1) - place_of(part, span.begin),
                    span.end - 1 - span.begin);
      }
    }
  }
}

const std::vector<std::string> kDivisible = {
    "full", "s2", "s2-global", "s2-sr", "sf", "s2-leaky", "sf-leaky", "fixed", "strided", "random"};

TEST(ContextPlan, MessagesAreWhatTheDefinitionSees) {
  for (const std::string& name : kDivisible)
    for (const int64_t tokens : {5, 12, 16, 23, 32})
      for (const int64_t group : {2, 4, 8}) {
        const bool rolled = name.find("leaky") != std::string::npos;
        if (group > tokens || (rolled && tokens % group != 0)) continue;
        for (const int64_t kv_heads : {1, 2, 4})
          check_plans(pattern_of(name, 4, tokens, group), {tokens, 4, kv_heads}, name);
      }
}

TEST(ContextPlan, PackedDocumentsSendNothingOverTheirBorders) {
  for (const char* name : {"full", "s2", "sf", "fixed", "strided", "random"}) {
    AttentionPattern p = pattern_of(name, 4, 32, 4);
    for (const auto& documents : std::vector<std::vector<int64_t>>{
             {0}, {0, 16}, {0, 1, 2, 7, 19}, {0, 8, 16, 24}, {0, 30}}) {
      p.documents = documents;
      check_plans(p, {32, 4, 2}, name);
    }
  }
  // Documents that end with the parts: nothing travels.
  AttentionPattern p = pattern_of("sf", 4, 32, 4);
  p.documents = {0, 8, 16, 24};
  for (int64_t rank = 0; rank < 4; ++rank)
    EXPECT_EQ(context_part(p, {32, 4, 4}, contiguous_layout(32, 4), rank).received_rows(), 0);
}

// What the queries of a part see among the held keys is what they see in the whole.
TEST(ContextPlan, ThePatternOfWhatIsHeldIsThePatternOfTheWhole) {
  for (const std::string& name : kDivisible)
    for (const bool packed : {false, true}) {
      AttentionPattern whole = pattern_of(name, 4, 30, 6);
      if (packed && whole.wrap != Wrap::split) continue;
      if (packed) whole.documents = {0, 3, 13};
      for (int64_t rank = 0; rank < 4; ++rank) {
        const ContextPart part = context_part(whole, {30, 4, 4}, contiguous_layout(30, 4), rank);
        AttentionPattern p = whole;
        p.held = part.held, p.length = 30;
        const int64_t first = part.own[0].begin, n = part.held_tokens();
        const int64_t begin = place_of(part, first), end = begin + part.own_tokens();
        std::vector<KeyRange> ranges;
        for (int64_t head = 0; head < 4; ++head)
          for (int64_t i0 = begin, i1; i0 < end; i0 = i1) {
            i1 = std::min(end, pane_end(p, head, i0, n));
            ASSERT_GT(i1, i0);
            key_ranges(p, head, i0, i1, n, ranges);
            for (int64_t i = i0; i < i1; ++i) {
              std::map<int64_t, int> seen;
              for (const KeyRange& r : ranges)
                for (int64_t j = r.begin; j < r.end; ++j)
                  seen[j] += r.rule == KeyRule::all || (r.rule == KeyRule::causal && j <= i) ||
                             (r.rule == KeyRule::partial && visible(p, head, i, j));
              for (const HeldSpan& span : part.held)
                for (int64_t token = span.begin; token < span.end; ++token) {
                  const int64_t j = span.at + token - span.begin;
                  const bool wanted = visible(whole, head, first + i - begin, token);
                  ASSERT_EQ(visible(p, head, i, j), wanted) << name;
                  ASSERT_EQ(seen[j], wanted)
                      << name << " head " << head << " query " << i << " key " << j;
                }
            }
          }
      }
    }
}

// Bytes a layer = 2 (G / 2) shifted key heads D 2 + sinks, in bf16, whatever the length.
TEST(ContextPlan, SfAndS2SendHalfAGroupOfShiftedHeadsAndTheSinks) {
  const int64_t D = 128, bytes = 2;
  for (const int64_t tokens : {4096, 8192, 32768, 131072})
    for (const int64_t ranks : {2, 4, 8})
      for (const int64_t kv_heads : {32, 8}) {
        const ContextSizes sizes{tokens, 32, kv_heads};
        const ContextLayout layout = contiguous_layout(tokens, ranks);
        for (const auto& [name, shifted, sinks] :
             {std::tuple<const char*, int64_t, int64_t>{"sf", kv_heads / 4, 4},
              {"s2", kv_heads / 2, 0}}) {
          const int64_t group = 512;
          const AttentionPattern p = pattern_of(name, 32, tokens, group);
          const int64_t half = 2 * (group / 2) * shifted * D * bytes;
          const int64_t first = 2 * sinks * kv_heads * D * bytes;
          for (int64_t rank = 0; rank < ranks; ++rank) {
            const ContextPart part = context_part(p, sizes, layout, rank);
            EXPECT_EQ(key_bytes(part.received_rows(), D, bytes), rank == 0 ? 0 : half + first);
            EXPECT_EQ(key_bytes(part.sent_rows(), D, bytes),
                      (rank + 1 < ranks ? half : 0) + (rank == 0 ? (ranks - 1) * first : 0));
          }
        }
      }
}

TEST(ContextPlan, FullAttentionIsBalancedByZigZagAndSendsLessThanAllToAll) {
  const ContextSizes sizes{64, 4, 2};
  AttentionPattern full;
  const ContextLayout layout = context_layout(full, 64, 4);
  for (const auto& own : layout) {
    ASSERT_EQ(own.size(), own[0].end == own.back().begin ? 1U : own.size());
    int64_t pairs = 0;
    for (const TokenSpan& span : own)
      for (int64_t i = span.begin; i < span.end; ++i) pairs += i + 1;
    EXPECT_EQ(pairs, 64 * 65 / 2 / 4);
  }
  for (int64_t rank = 0; rank < 4; ++rank)
    EXPECT_LE(context_part(full, sizes, layout, rank).received_rows(), ring_rows(sizes, 4));
}

std::string in_mib(int64_t rows) {  // of heads of width 128
  std::ostringstream text;
  text << std::fixed << std::setprecision(2)
       << static_cast<double>(key_bytes(rows, 128, 2)) / (1 << 20);
  return text.str();
}

// The most that a rank receives, in MiB of bf16.
std::string most_received(const AttentionPattern& p, const ContextSizes& sizes, int64_t ranks) {
  const ContextLayout layout = context_layout(p, sizes.tokens, ranks);
  int64_t most = 0;
  for (int64_t rank = 0; rank < ranks; ++rank)
    most = std::max(most, context_part(p, sizes, layout, rank).received_rows());
  return in_mib(most);
}

TEST(ContextPlan, TableOfBytesInTheDocumentation) {
  std::ifstream file(std::string(test::source_dir) + "/docs/context-parallel.md");
  const std::string page(std::istreambuf_iterator<char>(file), {});
  for (const int64_t kv_heads : {8, 32})
    for (const int64_t tokens : {8192, 32768, 102400}) {
      const ContextSizes sizes{tokens, 32, kv_heads};
      std::string row = concat("| ", tokens, " | ", kv_heads, " | ", in_mib(ring_rows(sizes, 8)),
                               " | ", most_received(AttentionPattern{}, sizes, 8), " |");
      for (const int64_t group : {int64_t{512}, int64_t{2048}, tokens / 4})
        row += concat(" ", most_received(pattern_of("sf", 32, tokens, group), sizes, 8), " |");
      EXPECT_NE(page.find(row), std::string::npos) << row;
    }
}

TEST(ContextPlan, RefusesWhatCannotBeDivided) {
  EXPECT_THROW(contiguous_layout(3, 4), Error);
  EXPECT_THROW(context_layout(pattern_of("shift-up-only", 4, 32, 8), 32, 2), Error);
  EXPECT_THROW(context_layout(pattern_of("shift-back-only", 4, 32, 8), 32, 2), Error);
  EXPECT_THROW(
      context_part(pattern_of("sf-leaky", 4, 32, 8), {31, 4, 4}, contiguous_layout(31, 2), 0),
      Error);
}

}  // namespace
}  // namespace mullion
