// Philox against the known-answer vectors published with the algorithm (Random123, kat_vectors).
#include "tensor/random.h"

#include <gtest/gtest.h>

#include <vector>

namespace mullion {
namespace {

void expect_block(uint64_t seed, uint64_t stream, uint64_t block, std::vector<uint32_t> want) {
  const PhiloxBlock got = philox(seed, stream, block);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(got.v[i], want[i]) << i;
}

TEST(Philox, KnownAnswers) {
  expect_block(0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  expect_block(~0ull, ~0ull, ~0ull, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  expect_block(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88,
               {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST(Philox, ResumesFromThreeIntegers) {
  Philox a{7, 3, 0};
  for (int i = 0; i < 5; ++i) a.next();
  Philox b{a.seed, a.stream, a.offset};
  for (int i = 0; i < 9; ++i) EXPECT_EQ(a.next(), b.next());
}

TEST(Philox, MomentsAndRanges) {
  Philox random{42, 1, 0};
  double sum = 0, square = 0, uniform = 0;
  const int n = 40000;
  for (int i = 0; i < n; ++i) {
    const float x = random.normal(), u = random.uniform();
    ASSERT_TRUE(u >= 0 && u < 1);
    ASSERT_LT(random.below(7), 7u);
    sum += x, square += x * x, uniform += u;
  }
  EXPECT_NEAR(sum / n, 0, 0.02);
  EXPECT_NEAR(square / n, 1, 0.03);
  EXPECT_NEAR(uniform / n, 0.5, 0.01);
}

}  // namespace
}  // namespace mullion
