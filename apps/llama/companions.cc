// The files beside the weights: copied where the source has them, else written from what it holds.
#include "apps/llama/companions.h"

#include <nlohmann/json.hpp>

#include "apps/llama/model_options.h"
#include "apps/program/log.h"
#include "data/tokenizer_writer.h"
#include "tensor/io/file.h"
#include "tensor/io/json.h"

namespace mullion {
namespace {
namespace fs = std::filesystem;

// As transformers and the tokenizer libraries name them.
constexpr const char* kFiles[] = {"tokenizer.json",
                                  "tokenizer.model",
                                  "tokenizer_config.json",
                                  "special_tokens_map.json",
                                  "added_tokens.json",
                                  "vocab.json",
                                  "merges.txt",
                                  "chat_template.jinja",
                                  "chat_template.json",
                                  "generation_config.json"};

constexpr uint64_t kMostBytes = uint64_t{1} << 30;  // of one of them

// The ids that end a text; transformers reads them here, and not from the tokenizer.
void write_generation_config(const fs::path& folder, const Tokenizer& tokenizer) {
  nlohmann::json json = {{"eos_token_id", tokenizer.eos_ids()}};
  if (tokenizer.bos()) json["bos_token_id"] = *tokenizer.bos();
  if (tokenizer.pad()) json["pad_token_id"] = *tokenizer.pad();
  write_json_file(folder / "generation_config.json", json);
}
}  // namespace

void check_companions(const fs::path& base) {
  if (fs::is_directory(base)) return;
  if (has_tokenizer(base))
    tokenizer_files(*load_tokenizer(base));
  else
    log_warning(base.string(), ": has no tokenizer, and so will the folder of the result");
}

void write_companions(const fs::path& base, const fs::path& folder) {
  if (!fs::is_directory(base)) {
    if (!has_tokenizer(base)) return;
    const auto tokenizer = load_tokenizer(base);
    write_tokenizer(*tokenizer, folder);
    write_generation_config(folder, *tokenizer);
    return;
  }
  for (const char* name : kFiles)
    if (fs::exists(base / name))
      write_whole_file(folder / name, read_whole_file(base / name, kMostBytes));
}

}  // namespace mullion
