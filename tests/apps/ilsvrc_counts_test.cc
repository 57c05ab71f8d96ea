// The counts of ILSVRC2012, in all and class by class.
#include "apps/tic/ilsvrc_counts.h"

#include <gtest/gtest.h>

namespace mullion {
namespace {

TEST(IlsvrcCounts, ClassesAreComparedWhereThereAreAThousand) {
  ClassCounts train, val;
  for (int c = 0; c < 1000; ++c) {
    const std::string id = "n" + std::to_string(10000000 + c);
    train[id] = 1281, val[id] = 50;
  }
  train["n10000000"] += 19;
  for (int c = 1; c <= 148; ++c) ++train["n" + std::to_string(10000000 + c)];
  EXPECT_TRUE(ilsvrc_count_doubts(train, val).empty()) << ilsvrc_count_doubts(train, val)[0];
  EXPECT_TRUE(is_whole_ilsvrc(1000, 50000));
  // The totals hold, and two classes are not theirs.
  train["n10000001"] += 600, train["n10000002"] -= 600;
  ++val["n10000003"], --val["n10000004"];
  const auto doubts = ilsvrc_count_doubts(train, val);
  ASSERT_EQ(doubts.size(), 2u);
  EXPECT_EQ(doubts[0],
            "2 classes have another number of training images than ILSVRC2012's, 732 to 1300: "
            "n10000001 1882, n10000002 682");
  EXPECT_EQ(doubts[1],
            "2 classes have another number of validation images than ILSVRC2012's, 50: "
            "n10000003 51, n10000004 49");
  // Another set: its totals alone.
  EXPECT_EQ(ilsvrc_count_doubts({{"a", 3}, {"b", 4}}, {{"a", 1}, {"b", 1}}),
            (std::vector<std::string>{"ILSVRC2012 has 1000 classes, 1281167 training and 50000 "
                                      "validation images; these are 2, 7 and 2"}));
}

}  // namespace
}  // namespace mullion
