// Rows of text as batches, packed, and in order.
#include "data/text_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "data/order.h"
#include "tensor/check.h"

namespace mullion {
namespace {

class GivenRows : public TextRows {
 public:
  explicit GivenRows(std::vector<TextRow> rows) : rows_(std::move(rows)) {}
  int64_t size() const override { return std::ssize(rows_); }
  int64_t tokens() const override { return 0; }
  int64_t length(int64_t row) const override { return std::ssize(read(row).ids); }
  TextRow read(int64_t row) const override { return rows_[static_cast<size_t>(row)]; }
  std::string fingerprint() const override { return "given"; }

 private:
  std::vector<TextRow> rows_;
};

TEST(TextRows, BatchesArePaddedAndTheirTargetsShifted) {
  const TextRow a{{5, 6, 7}, {0, 1, 1}, {}}, b{{8, 9}, {}, {}};
  const TextBatch batch = collate({a, b}, 100, 4, false);
  EXPECT_EQ(batch.rows, 2);
  EXPECT_EQ(batch.tokens, 4);
  EXPECT_EQ(batch.ids, (std::vector<int64_t>{5, 6, 7, 0, 8, 9, 0, 0}));
  const int64_t no = kNoTarget;
  EXPECT_EQ(batch.targets, (std::vector<int64_t>{6, 7, no, no, 9, no, no, no}));
  EXPECT_EQ(batch.learned, 3);
  EXPECT_EQ(batch.real, 5);
  EXPECT_TRUE(batch.documents.empty());
  EXPECT_EQ(collate({a, b}, 3, 64, false).tokens, 3);  // never beyond the context
  EXPECT_THROW(collate({a}, 2, 64, false), Error);
}

TEST(TextRows, PackedRowsKeepTheirDocumentsApart) {
  const TextRow a{{1, 2, 3}, {0, 1, 1}, {}}, b{{4, 5}, {1, 1}, {}}, c{{6, 7, 8, 9}, {}, {}};
  const auto packed =
      pack_rows(std::make_unique<GivenRows>(std::vector<TextRow>{a, b, c}), 6, false);
  ASSERT_EQ(packed->size(), 2);
  EXPECT_EQ(packed->length(0), 5);
  const TextRow first = packed->read(0);
  EXPECT_EQ(first.ids, (std::vector<int32_t>{1, 2, 3, 4, 5}));
  EXPECT_EQ(first.documents, (std::vector<int32_t>{0, 3}));
  const TextBatch batch = collate({first, packed->read(1)}, 6, 64, true);
  const int64_t no = kNoTarget;
  EXPECT_EQ(batch.tokens, 6);
  // The first token of a document is nobody's target, though it is learned.
  EXPECT_EQ(batch.targets, (std::vector<int64_t>{2, 3, no, 5, no, no, 7, 8, 9, no, no, no}));
  EXPECT_EQ(batch.documents, (std::vector<int64_t>{0, 3, 5, 6, 10}));  // padding is one as well
}

TEST(TextRows, BestFitLeavesLittleRoom) {
  std::vector<TextRow> rows;
  for (const size_t n : {6, 4, 3, 7, 10, 5, 5})
    rows.push_back({std::vector<int32_t>(n, 1), {}, {}});
  EXPECT_EQ(pack_rows(std::make_unique<GivenRows>(rows), 10, true)->size(), 4);
  EXPECT_EQ(pack_rows(std::make_unique<GivenRows>(rows), 10, false)->size(), 4);
  EXPECT_THROW(pack_rows(std::make_unique<GivenRows>(rows), 9, true), Error);
}

TEST(SampleOrder, RanksShareEachEpoch) {
  std::vector<int64_t> alone;
  SampleOrder whole({.size = 10, .seed = 3});
  for (int64_t p = 0; p < 20; ++p) alone.push_back(whole.at(p));
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    std::vector<int64_t> seen(alone.begin() + 10 * epoch, alone.begin() + 10 * epoch + 10);
    EXPECT_EQ(seen, epoch_order(10, 3, epoch));
    std::sort(seen.begin(), seen.end());
    std::vector<int64_t> all(10);
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(seen, all);
  }
  for (int64_t rank = 0; rank < 3; ++rank) {
    SampleOrder part({.size = 10, .seed = 3, .rank = rank, .world = 3});
    for (int64_t p = 0; p < 6; ++p) EXPECT_EQ(part.at(p), alone[static_cast<size_t>(3 * p + rank)]);
  }
  SampleOrder file_order({.size = 4, .shuffle = false});
  EXPECT_EQ(file_order.at(6), 2);
}

// Rows of the seeds that earlier versions gave out: a resumed run goes on with them.
TEST(SampleOrder, TheDrawsAreThoseOfEarlierRuns) {
  using Order = std::vector<int64_t>;
  EXPECT_EQ(epoch_order(8, 42, 0), (Order{6, 7, 2, 3, 4, 1, 5, 0}));
  EXPECT_EQ(epoch_order(8, 42, 1), (Order{5, 2, 7, 4, 3, 6, 1, 0}));
  EXPECT_EQ(epoch_order(8, 42, 0, OrderDraw::bounded), (Order{6, 5, 2, 1, 4, 0, 7, 3}));
  EXPECT_EQ(epoch_order(8, 42, 1, OrderDraw::bounded), (Order{0, 4, 2, 7, 3, 6, 1, 5}));
}

TEST(SampleOrder, WindowsPutRowsOfALengthTogether) {
  std::vector<int64_t> lengths(64);
  for (size_t i = 0; i < 64; ++i) lengths[i] = static_cast<int64_t>(i * 37 % 64);
  SampleOrder order({.size = 64, .seed = 1, .lengths = lengths, .window = 32, .chunk = 4});
  std::vector<int64_t> seen;
  int64_t spread = 0;
  for (int64_t p = 0; p < 64; p += 4) {
    int64_t least = 64, most = 0;
    for (int64_t i = p; i < p + 4; ++i) {
      seen.push_back(order.at(i));
      least = std::min(least, lengths[static_cast<size_t>(seen.back())]);
      most = std::max(most, lengths[static_cast<size_t>(seen.back())]);
    }
    spread = std::max(spread, most - least);
  }
  EXPECT_LT(spread, 24);
  std::sort(seen.begin(), seen.end());
  for (int64_t i = 0; i < 64; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], i);
}

}  // namespace
}  // namespace mullion
