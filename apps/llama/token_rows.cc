#include "apps/llama/token_rows.h"

#include <glob.h>

#include <algorithm>
#include <numeric>

#include "data/dataset.h"
#include "tensor/check.h"
#include "tensor/io/sha256.h"

namespace mullion {

namespace {
constexpr uint64_t kSampleTokens = 1 << 16;
}

void add_token_dtype(OptionTable& table) {
  table
      .add_optional<std::string>("data.token_dtype", "--token-dtype",
                                 "--data is a token file without a header, of u16 or u32 ids")
      .one_of({"u16", "u32"});
}

TokenFileOptions token_file_options(const Options& options, int64_t vocab_size) {
  TokenFileOptions result;
  result.vocab_size = vocab_size;
  if (options.has("data.token_dtype"))
    result.width =
        options.get<std::string>("data.token_dtype") == "u16" ? TokenWidth::u16 : TokenWidth::u32;
  return result;
}

std::vector<std::string> matching_files(const std::vector<std::string>& patterns) {
  std::vector<std::string> files;
  for (const std::string& pattern : patterns) {
    glob_t found{};
    const int status = ::glob(pattern.c_str(), 0, nullptr, &found);
    for (size_t i = 0; status == 0 && i < found.gl_pathc; ++i)
      files.emplace_back(found.gl_pathv[i]);
    ::globfree(&found);
    CHECK_AS(Fault::bad_file, status == 0, pattern, ": no such file");
  }
  return files;
}

void require_same_tokenizer(const TokenFile& file, const std::string& hash) {
  const std::string& made_by = file.notes().tokenizer_sha256;
  if (made_by.empty() || hash.empty() || made_by == hash) return;
  throw Error(concat(file.name(), ": made by another tokenizer: sha256 ", made_by,
                     ", the model's is ", hash),
              Fault::bad_file, "data_llama tokenize --model MODEL makes ids for this model");
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

void TokenRows::read(int64_t row, int64_t* ids, int64_t* targets) const {
  CHECK(row >= 0 && row < rows_, "row ", row, " of ", rows_);
  // The last file that begins at or before the row; files without a row begin where the next does.
  const auto after = std::upper_bound(first_row_.begin(), first_row_.end(), row);
  const auto file = static_cast<size_t>(after - first_row_.begin() - 1);
  std::vector<int32_t> window(static_cast<size_t>(context_));
  files_[file]->read(static_cast<uint64_t>((row - first_row_[file]) * context_), window);
  for (int64_t t = 0; t < context_; ++t) {
    ids[t] = window[static_cast<size_t>(t)];
    targets[t] = t + 1 < context_ ? window[static_cast<size_t>(t + 1)] : -100;
  }
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

int64_t RowOrder::at(int64_t position) {
  const int64_t epoch = position / rows_, place = position % rows_;
  if (!shuffle_) return place;
  if (epoch != epoch_) {
    CHECK(rows_ < int64_t{UINT32_MAX}, rows_, " rows are more than can be shuffled");
    permutation_.resize(static_cast<size_t>(rows_));
    std::iota(permutation_.begin(), permutation_.end(), int64_t{0});
    Philox random = SampleKey{seed_, epoch, 0}.random(Purpose::order);
    for (int64_t i = rows_ - 1; i > 0; --i)
      std::swap(permutation_[static_cast<size_t>(i)],
                permutation_[random.below(static_cast<uint32_t>(i + 1))]);
    epoch_ = epoch;
  }
  return permutation_[static_cast<size_t>(place)];
}

}  // namespace mullion
