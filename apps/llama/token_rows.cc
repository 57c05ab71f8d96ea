// Patterns of file names resolved, and files compared with the model's tokenizer by hash.
#include "apps/llama/token_rows.h"

#include <glob.h>

#include "apps/program/log.h"
#include "data/same_files.h"
#include "tensor/check.h"

namespace mullion {

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
    if (std::error_code ignored; std::filesystem::exists(pattern, ignored)) {
      files.push_back(pattern);  // also where its name has letters of a pattern: "book[1].txt"
      continue;
    }
    glob_t found{};
    const int status = ::glob(pattern.c_str(), 0, nullptr, &found);
    for (size_t i = 0; status == 0 && i < found.gl_pathc; ++i)
      files.emplace_back(found.gl_pathv[i]);
    ::globfree(&found);
    CHECK_AS(Fault::bad_file, status == 0, pattern, ": no such file");
  }
  return files;
}

void warn_of_repeats(const std::vector<std::filesystem::path>& files) {
  for (const std::string& sentence : repeated_files(files))
    log_warning(sentence, "; it is taken each time");
}

void require_same_tokenizer(const TokenFile& file, const std::string& hash) {
  const std::string& made_by = file.notes().tokenizer_sha256;
  if (made_by.empty() || hash.empty() || made_by == hash) return;
  throw Error(concat(file.name(), ": made by another tokenizer: sha256 ", made_by,
                     ", the model's is ", hash),
              Fault::bad_file, "data_llama tokenize --model MODEL makes ids for this model");
}

}  // namespace mullion
