// Best fit over falling lengths for packing; rows joined into a batch with documents' borders.
#include "data/text_rows.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "tensor/check.h"
#include "tensor/io/sha256.h"

namespace mullion {

std::vector<int64_t> row_lengths(const TextRows& rows) {
  std::vector<int64_t> lengths(static_cast<size_t>(rows.size()));
  for (int64_t i = 0; i < rows.size(); ++i) lengths[static_cast<size_t>(i)] = rows.length(i);
  const bool same =
      std::adjacent_find(lengths.begin(), lengths.end(), std::not_equal_to<>()) == lengths.end();
  return same ? std::vector<int64_t>{} : lengths;
}

TextBatch collate(const std::vector<TextRow>& rows, int64_t context, int64_t multiple,
                  bool packed) {
  TextBatch batch;
  batch.rows = std::ssize(rows);
  for (const TextRow& row : rows) batch.tokens = std::max(batch.tokens, std::ssize(row.ids));
  CHECK(batch.tokens <= context, "a row of ", batch.tokens, " tokens in a context of ", context);
  if (batch.tokens < context)
    batch.tokens = std::min(context, (batch.tokens + multiple - 1) / multiple * multiple);
  const auto size = static_cast<size_t>(batch.rows * batch.tokens);
  batch.ids.assign(size, 0);
  batch.targets.assign(size, kNoTarget);
  for (int64_t r = 0; r < batch.rows; ++r) {
    const TextRow& row = rows[static_cast<size_t>(r)];
    const int64_t n = std::ssize(row.ids), begin = r * batch.tokens;
    size_t next = 0;  // document
    for (int64_t t = 0; t < n; ++t) {
      const auto at = static_cast<size_t>(t);
      const bool starts = t == 0 || (next < row.documents.size() && row.documents[next] == t);
      if (starts && next < row.documents.size()) ++next;
      if (starts && packed) batch.documents.push_back(begin + t);
      batch.ids[static_cast<size_t>(begin + t)] = row.ids[at];
      if (starts || (!row.learned.empty() && !row.learned[at])) continue;
      batch.targets[static_cast<size_t>(begin + t - 1)] = row.ids[at];
      ++batch.learned;
    }
    if (packed && n < batch.tokens) batch.documents.push_back(begin + n);
    batch.real += n;
  }
  return batch;
}

namespace {

class PackedRows : public TextRows {
 public:
  PackedRows(std::unique_ptr<TextRows> rows, int64_t context, bool by_length)
      : rows_(std::move(rows)) {
    std::vector<int64_t> order(static_cast<size_t>(rows_->size()));
    std::iota(order.begin(), order.end(), int64_t{0});
    for (const int64_t i : order)
      CHECK(rows_->length(i) <= context, "row ", i, " of ", rows_->length(i),
            " tokens in a context of ", context);
    if (by_length)
      std::stable_sort(order.begin(), order.end(),
                       [&](int64_t a, int64_t b) { return rows_->length(a) > rows_->length(b); });
    std::multimap<int64_t, size_t> room;  // tokens free, and in which row; by_length: in all
    for (const int64_t i : order) {
      const int64_t n = rows_->length(i);
      const auto fit = room.lower_bound(n);
      size_t place = packed_.size();
      int64_t free = context;
      if (fit != room.end()) {
        free = fit->first;
        place = fit->second;
        room.erase(fit);
      } else {
        packed_.emplace_back();
        if (!by_length) room.clear();  // only the last row is still open
      }
      packed_[place].push_back(i);
      room.emplace(free - n, place);
    }
  }

  int64_t size() const override { return std::ssize(packed_); }
  int64_t tokens() const override { return rows_->tokens(); }
  int64_t length(int64_t row) const override {
    int64_t sum = 0;
    for (const int64_t i : packed_[static_cast<size_t>(row)]) sum += rows_->length(i);
    return sum;
  }
  TextRow read(int64_t row) const override {
    TextRow result;
    for (const int64_t i : packed_[static_cast<size_t>(row)]) {
      const TextRow one = rows_->read(i);
      result.documents.push_back(static_cast<int32_t>(result.ids.size()));
      result.ids.insert(result.ids.end(), one.ids.begin(), one.ids.end());
      if (one.learned.empty())
        result.learned.insert(result.learned.end(), one.ids.size(), uint8_t{1});
      else
        result.learned.insert(result.learned.end(), one.learned.begin(), one.learned.end());
    }
    return result;
  }
  std::string fingerprint() const override {
    Sha256 hash;
    hash.update("packed " + rows_->fingerprint());
    for (const std::vector<int64_t>& row : packed_) {
      hash.update(" ");
      hash.update(row.data(), row.size() * sizeof(int64_t));
    }
    return hash.hex();
  }

 private:
  std::unique_ptr<TextRows> rows_;
  std::vector<std::vector<int64_t>> packed_;
};

}  // namespace

std::unique_ptr<TextRows> pack_rows(std::unique_ptr<TextRows> rows, int64_t context,
                                    bool by_length) {
  return std::make_unique<PackedRows>(std::move(rows), context, by_length);
}

}  // namespace mullion
