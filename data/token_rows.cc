// The file of a row by binary search, then one read.
#include "data/token_rows.h"

#include <algorithm>

#include "tensor/check.h"
#include "tensor/io/contents.h"
#include "tensor/io/sha256.h"

namespace mullion {

namespace {
constexpr uint64_t kSampleTokens = 1 << 16;
}

TokenRows::TokenRows(const std::vector<std::string>& files, const TokenFileOptions& options,
                     int64_t context)
    : context_(context) {
  CHECK_AS(Fault::usage, context >= 2, "--ctx-size ", context, ": at least 2 tokens");
  for (const std::string& file : files) {
    files_.push_back(std::make_unique<TokenFile>(file, options));
    first_row_.push_back(rows_);
    rows_ += static_cast<int64_t>(files_.back()->size()) / context;
    tokens_ += static_cast<int64_t>(files_.back()->size());
  }
  CHECK_AS(Fault::bad_file, rows_ > 0, files_.empty() ? "data" : files_[0]->name(), ": ", tokens_,
           " tokens, fewer than one row of ", context);
}

TextRow TokenRows::read(int64_t row) const {
  CHECK(row >= 0 && row < rows_, "row ", row, " of ", rows_);
  // The last file that begins at or before the row; files without a row begin where the next does.
  const auto after = std::upper_bound(first_row_.begin(), first_row_.end(), row);
  const auto file = static_cast<size_t>(after - first_row_.begin() - 1);
  TextRow result;
  result.ids.resize(static_cast<size_t>(context_));
  files_[file]->read(static_cast<uint64_t>((row - first_row_[file]) * context_), result.ids);
  return result;
}

std::string TokenRows::fingerprint() const {
  Sha256 hash;
  for (const auto& file : files_) {
    const uint64_t size = file->size(), part = std::min(size, kSampleTokens);
    hash.update(std::to_string(size) + " ");
    for (const uint64_t begin : {uint64_t{0}, size - part}) {
      const std::vector<int32_t> ids = file->read(begin, part);
      hash.update(ids.data(), ids.size() * sizeof(int32_t));
    }
  }
  return hash.hex();
}

std::string TokenRows::contents() const {
  ContentsDigest digest(static_cast<uint64_t>(tokens_) * sizeof(int32_t));
  for (const auto& file : files_)
    digest.add_ids(file->size(),
                   [&](uint64_t begin, std::span<int32_t> out) { file->read(begin, out); });
  return digest.hex();
}

}  // namespace mullion
