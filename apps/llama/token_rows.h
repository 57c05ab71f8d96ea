// Token files as rows of a fixed number of tokens, for training: row i is the i-th window of
// `context` consecutive tokens, file after file; what is left at the end of a file is not used.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apps/options/options.h"
#include "data/token_file.h"

namespace mullion {

// --token-dtype u16|u32, and what it says.
void add_token_dtype(OptionTable& table);
TokenFileOptions token_file_options(const Options& options, int64_t vocab_size);
// The files that patterns like "tokens/*.bin" stand for, sorted by name within each pattern.
// Error(bad_file) for a pattern that matches none.
std::vector<std::string> matching_files(const std::vector<std::string>& patterns);

// Error(bad_file) where the side file names another tokenizer than `hash`, the model's; an empty
// hash stands for a model without one.
void require_same_tokenizer(const TokenFile& file, const std::string& hash);

class TokenRows {
 public:
  TokenRows(const std::vector<std::string>& files, const TokenFileOptions& options,
            int64_t context);
  int64_t size() const { return rows_; }
  int64_t tokens() const { return tokens_; }
  int64_t context() const { return context_; }
  // ids (context) and targets (context): the next id of the row, -100 at its end.
  void read(int64_t row, int64_t* ids, int64_t* targets) const;
  // SHA-256 over the lengths of the files and their first and last tokens.
  std::string fingerprint() const;
  const std::vector<std::unique_ptr<TokenFile>>& files() const { return files_; }

 private:
  std::vector<std::unique_ptr<TokenFile>> files_;
  std::vector<int64_t> first_row_;  // of each file
  int64_t context_, rows_ = 0, tokens_ = 0;
};

// The order in which rows are seen: position p is place p % rows of epoch p / rows, each epoch a
// permutation that (seed, epoch) decides; without shuffling, file order.
class RowOrder {
 public:
  RowOrder(int64_t rows, uint64_t seed, bool shuffle)
      : rows_(rows), seed_(seed), shuffle_(shuffle) {}
  int64_t at(int64_t position);

 private:
  int64_t rows_;
  uint64_t seed_;
  bool shuffle_;
  int64_t epoch_ = -1;
  std::vector<int64_t> permutation_;  // of epoch_
};

}  // namespace mullion
