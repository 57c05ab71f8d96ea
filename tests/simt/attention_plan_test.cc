// Plans of attention at the edges of what their indices reach.
#include "tensor/cuda/attention/attention_plan.h"

#include "tests/cuda/device_runs.h"

namespace mullion::cuda {
namespace {

using test::kCuda;

class AttentionPlans : public test::OnDevice<> {};

AttentionSizes sizes(const AttentionPattern& pattern, int64_t tokens, int64_t heads) {
  AttentionSizes size{.B = 1, .T = tokens, .S = tokens, .H = heads, .Hkv = 1, .D = 64};
  size.pattern = &pattern;
  return size;
}

PlanGroup first_group(const AttentionPlan& plan) {
  PlanGroup group;
  backend(DeviceType::cuda).download(&group, plan.groups, sizeof group, 0);
  return group;
}

// Kernels divide a row by the number of heads by a product, which must be right up to the last row
// that a plan allows.
TEST_F(AttentionPlans, TheLastRowsFindTheirTokens) {
  const AttentionPattern full;
  for (int64_t heads = 1; heads <= kMostHeads; ++heads) {
    SCOPED_TRACE(heads);
    const PlanGroup group = first_group(attention_plan(sizes(full, 3, heads), {.rows = 64}));
    ASSERT_EQ(group.heads, heads);
    const auto token_of = [&](int64_t row) {
      return static_cast<int64_t>(static_cast<uint64_t>(row) * group.reciprocal >> 31);
    };
    for (int64_t row = 0; row<kMostRows; row += row> kMostRows - 2000 ? 1 : 997)
      ASSERT_EQ(token_of(row), row / heads) << row;
    for (int64_t token = 1; token < kMostRows / heads; token += 31) {  // where it changes
      ASSERT_EQ(token_of(token * heads), token);
      ASSERT_EQ(token_of(token * heads - 1), token - 1);
    }
  }
}

TEST_F(AttentionPlans, TheMostTokensAreNotRefused) {
  const AttentionPattern full;
  constexpr int64_t heads = kMostHeads, tokens = kMostRows / heads - 1;
  const AttentionPlan plan = attention_plan(sizes(full, tokens, heads), {.rows = 64});
  EXPECT_EQ(plan.most_heads, heads);
  EXPECT_EQ(plan.n_keys, tokens);
  EXPECT_EQ(plan.n_queries, (tokens + 1) / 2);  // two tokens of 32 heads a block
  EXPECT_THROW(attention_plan(sizes(full, tokens + 1, heads), {.rows = 64}), Error);
}

}  // namespace
}  // namespace mullion::cuda
