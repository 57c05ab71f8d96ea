// The sweep over the CPU's kernel table, and that no slot of the table is without one.
#include <gtest/gtest.h>

#include "tests/sweep/sweep.h"

namespace mullion::sweep {

static void PrintTo(const Row& row, std::ostream* out) { *out << row.name; }

namespace {

class Sweep : public ::testing::TestWithParam<Row> {};

TEST_P(Sweep, OfSmallSizes) {
  const Report report = run_row(GetParam(), kernels({}));
  for (const std::string& message : report.messages) ADD_FAILURE() << message;
  EXPECT_EQ(report.failed, 0) << "of " << report.runs << " runs";
  EXPECT_GT(report.runs, 0);
  for (const size_t slot : GetParam().slots) EXPECT_TRUE(report.called[slot]) << "slot " << slot;
}

INSTANTIATE_TEST_SUITE_P(Rows, Sweep, ::testing::ValuesIn(all_rows()),
                         [](const auto& row) { return row.param.name; });

TEST(SweepRows, EverySlotOfTheTableHasOne) {
  std::vector<std::string> row_of(kSlots);
  for (const Row& row : all_rows())
    for (const size_t slot : row.slots) row_of[slot] = row.name;
  for (size_t slot = 0; slot < kSlots; ++slot)
    EXPECT_FALSE(row_of[slot].empty())
        << "slot " << slot << " of the KernelTable (after the one of row "
        << (slot > 0 ? row_of[slot - 1] : "none") << ") has no row in tests/sweep";
}

}  // namespace
}  // namespace mullion::sweep
