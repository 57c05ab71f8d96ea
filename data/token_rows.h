// Token files as rows of a fixed number of tokens: row i is the i-th window of `context`
// consecutive tokens, file after file; what is left at the end of a file is not used.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/text_rows.h"
#include "data/token_file.h"

namespace mullion {

class TokenRows : public TextRows {
 public:
  // Error(bad_file) where the files have no row.
  TokenRows(const std::vector<std::string>& files, const TokenFileOptions& options,
            int64_t context);
  int64_t size() const override { return rows_; }
  int64_t tokens() const override { return tokens_; }
  int64_t length(int64_t /*row*/) const override { return context_; }
  TextRow read(int64_t row) const override;  // every id but the first is a target
  // SHA-256 over the lengths of the files and their first and last tokens.
  std::string fingerprint() const override;
  // Digest of what the files hold (tensor/io/contents.h).
  std::string contents() const;
  const std::vector<std::unique_ptr<TokenFile>>& files() const { return files_; }

 private:
  std::vector<std::unique_ptr<TokenFile>> files_;
  std::vector<int64_t> first_row_;  // of each file
  int64_t context_, rows_ = 0, tokens_ = 0;
};

}  // namespace mullion
