// Rows of text to learn from, whatever they come from: ids, which of them are targets, and where
// documents begin. What a training reads is batches of them.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace mullion {

constexpr int64_t kNoTarget = -100;

struct TextRow {
  std::vector<int32_t> ids;
  std::vector<uint8_t> learned;    // by id: whether it is to be predicted; empty: all are
  std::vector<int32_t> documents;  // where each begins, ascending from 0; empty: one document
};

class TextRows {
 public:
  virtual ~TextRows() = default;
  virtual int64_t size() const = 0;
  virtual int64_t tokens() const = 0;  // of the files, rows or not
  virtual int64_t length(int64_t row) const = 0;
  virtual TextRow read(int64_t row) const = 0;
  // 64 hexadecimal digits over what the rows are.
  virtual std::string fingerprint() const = 0;
};

// The lengths of all rows; empty where they have one length.
std::vector<int64_t> row_lengths(const TextRows& rows);

struct TextBatch {
  int64_t rows = 0, tokens = 0;       // tokens: of a row, padding included
  std::vector<int64_t> ids, targets;  // rows x tokens; targets: the id to follow, or kNoTarget
  std::vector<int64_t> documents;     // of packed rows: where each begins among rows x tokens
  int64_t real = 0;                   // tokens that are no padding
  int64_t learned = 0;                // targets
};

// One row beside another, the shorter ones filled up on the right: to a multiple of `multiple`
// where their lengths differ from each other or from `context`, which none exceeds. A document's
// first token and padding are nobody's target. `packed`: documents are given even if each row has
// but one; padding is then a document of its own.
TextBatch collate(const std::vector<TextRow>& rows, int64_t context, int64_t multiple, bool packed);

// Rows put beside each other into longer ones of at most `context` tokens, each a document. With
// `by_length` into the fullest row that still has room, the long ones first (best fit decreasing);
// else in order. A row of `rows` longer than the context is an error.
std::unique_ptr<TextRows> pack_rows(std::unique_ptr<TextRows> rows, int64_t context,
                                    bool by_length);

}  // namespace mullion
