// Texts as data: what --data names, how its documents become ids, and where the ids of a text are
// kept so that training reads them like any token file.
#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "apps/options/options.h"
#include "apps/program/json_object.h"
#include "data/text_documents.h"
#include "data/tokenizer.h"

namespace mullion {

// --text-field --encoding, and what they say.
void add_text_options(OptionTable& table);
void add_encoding(OptionTable& table);
// tell_idle() for --text-field where none of the texts is JSON, and for --encoding as well where
// there are no texts at all.
void check_text_options(const Options& options, const std::vector<std::filesystem::path>& texts,
                        bool any_text);
// The same for what --data and --val-data name, token files among it.
void check_text_options(const Options& options, const std::vector<std::string>& data);
// The value of a text option; Error(usage) with the flag and the byte where it is no UTF-8.
std::string utf8_option(const Options& options, const std::string& key, const char* flag);
// All of it; Error(bad_file) where there are more bytes.
std::string standard_input(uint64_t most_bytes);
DocumentOptions document_options(const Options& options);

// Whether `path` is read as a token file: with --token-dtype always; else where it begins with the
// header of one, or has the name of one (.bin, .u16, .u32), which without a header is then refused.
// Everything else is text.
bool is_token_file(const Options& options, const std::filesystem::path& path);

struct TextSummary {
  DocumentCounts counts;
  DocumentFiles files;
  uint64_t tokens = 0;
  int64_t unknown = 0;      // of them, for characters that the vocabulary does not have
  JsonObject json() const;  // {documents, bytes, empty, bad, unknown, left_out}
};
// Hands the ids of each document to `use`. Says on stderr the first ids and what was left out:
// files of other kinds, bad lines, empty documents. Error where a signal ends it or there is no
// document.
TextSummary tokenize_documents(const DocumentFiles& files, const DocumentOptions& reading,
                               const Tokenizer& tokenizer, const EncodeOptions& encode,
                               const std::function<void(std::span<const int32_t>)>& use);
// 9690 "system", with line breaks and the like escaped, and so on; of the first few of a row.
std::string listed_tokens(const Tokenizer& tokenizer, std::span<const int32_t> ids,
                          const char* between);
std::string first_tokens(const Tokenizer& tokenizer, std::span<const int32_t> ids);
// BOS and EOS as the tokenizer's own policy says; --bos or --eos of the program may differ.
EncodeOptions text_policy(const Tokenizer& tokenizer);

// The token files behind `data` (files, folders, patterns), in its order. Texts are tokenized into
// OUTPUT/token-cache/KEY.bin, where KEY is a hash of their bytes, the tokenizer and the options; a
// file that is there already is used again. Both are said on stderr. `open_tokenizer` is called
// where there is a text; `facts` gets an entry for each token file made or found so.
std::vector<std::string> token_files(
    const Options& options, const std::vector<std::string>& data,
    const std::function<std::unique_ptr<Tokenizer>()>& open_tokenizer,
    std::vector<JsonObject>& facts);

}  // namespace mullion
