// Files to documents to ids, and the cache of token files, named by all that decides the ids.
#include "apps/llama/text_data.h"

#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/llama/token_rows.h"
#include "apps/program/log.h"
#include "apps/program/progress.h"
#include "apps/program/signals.h"
#include "data/token_file.h"
#include "data/utf8.h"
#include "tensor/check.h"
#include "tensor/io/file_ops.h"
#include "tensor/io/json.h"
#include "tensor/io/sha256.h"
#include "tensor/words.h"

namespace mullion {

namespace {
namespace fs = std::filesystem;
constexpr size_t kShownIds = 8;

// Characters of the text that the vocabulary does not have: the UNK ids but for the BOS or EOS
// around it, and those that the text itself spells.
int64_t unknown_characters(const Tokenizer& tokenizer, const std::string& text,
                           std::span<const int32_t> ids, const EncodeOptions& encode) {
  const auto unknown = tokenizer.unk();
  if (!unknown) return 0;
  int64_t count = std::count(ids.begin(), ids.end(), *unknown) -
                  (encode.bos && tokenizer.bos() == unknown ? 1 : 0) -
                  (encode.eos && tokenizer.eos() == unknown ? 1 : 0);
  const std::string& spelled = tokenizer.token_text(*unknown);
  if (encode.parse_specials || tokenizer.type(*unknown) == TokenType::user_defined)
    for (size_t at = 0; count > 0 && (at = text.find(spelled, at)) != text.npos;) {
      --count;
      at += spelled.size();
    }
  return count;
}

void warn_of_unknown(const Tokenizer& tokenizer, int64_t count) {
  if (count > 0)
    log_warning(count, " tokens are ", json_string(tokenizer.token_text(*tokenizer.unk())),
                ": characters that the vocabulary does not have");
}

// As TokenFileWriter wrote it: a file from before has no such count.
int64_t unknown_of(const fs::path& side_file) {
  return static_cast<int64_t>(
      get_uint_or(read_json_file(side_file), side_file.string(), "unknown", INT64_MAX, 0));
}

// Everything that decides the ids: the bytes of the files, how each is read, tokenizer and policy.
std::string cache_key(const DocumentFiles& files, const Options& options,
                      const Tokenizer& tokenizer, const EncodeOptions& encode) {
  Sha256 key;
  key.update(concat("token cache 2 ", tokenizer.hash(), " ", encode.bos, encode.eos, " ",
                    json_string(options.get<std::string>("data.field")), " ",
                    options.get<std::string>("data.encoding"), "\n"));
  for (const fs::path& file : files.files)
    key.update(concat(json_string(file.extension().string()), " ", sha256_file(file), "\n"));
  return key.hex();
}

class TextCache {
 public:
  TextCache(const Options& options, const Tokenizer& tokenizer)
      : options_(options), tokenizer_(tokenizer) {}

  // The token file of these texts, made where it is not there yet.
  std::string file_of(const std::vector<fs::path>& texts, std::vector<JsonObject>& facts) const {
    const DocumentFiles files = document_files(texts);
    const EncodeOptions encode = text_policy(tokenizer_);
    const fs::path folder = options_.get<fs::path>("save.output") / "token-cache";
    const fs::path file = folder / (cache_key(files, options_, tokenizer_, encode) + ".bin");
    JsonObject fact;
    fact.set("text", texts[0].string()).set("files", files.files.size());
    if (fs::exists(file) && fs::exists(token_side_file(file))) {
      const std::string left = describe_left_out(files);
      if (!left.empty()) log_warning("files of other kinds left out: ", left);
      log_info("text       ", texts[0].string(), " (", files.files.size(),
               " files): tokenized before, ids from ", file.string());
      warn_of_unknown(tokenizer_, unknown_of(token_side_file(file)));
      facts.push_back(fact.set("tokens_in", file.string()));
      return file.string();
    }
    make_folders(folder);
    TokenFileNotes notes;
    notes.tokenizer_sha256 = tokenizer_.hash();
    notes.bos = encode.bos;
    notes.eos = encode.eos;
    TokenFileWriter writer(file, token_width(tokenizer_.vocab_size()), notes);
    const TextSummary summary = tokenize_documents(files, document_options(options_), tokenizer_,
                                                   encode, [&](std::span<const int32_t> ids) {
                                                     writer.begin_document();
                                                     writer.append(ids);
                                                   });
    writer.set_unknown(summary.unknown);
    writer.finish();
    log_info("text       ", texts[0].string(), " (", files.files.size(),
             " files): ", summary.tokens, " tokens of ", summary.counts.documents,
             " documents, BOS ", encode.bos ? "on" : "off", ", EOS ", encode.eos ? "on" : "off",
             ", kept in ", file.string());
    facts.push_back(fact.set("tokens_in", file.string()).set("read", summary.json()));
    return file.string();
  }

 private:
  const Options& options_;
  const Tokenizer& tokenizer_;
};
}  // namespace

void add_encoding(OptionTable& table) {
  table
      .add("data.encoding", "--encoding", "utf-8",
           "how text is written; bytes that it does not have are an error")
      .one_of({"utf-8", "latin1", "utf-16", "utf-16le", "utf-16be"});
}

void add_text_options(OptionTable& table) {
  table.add("data.field", "--text-field", std::string("text"), "the field of JSON documents");
  add_encoding(table);
}

void check_text_options(const Options& options, const std::vector<fs::path>& texts, bool any_text) {
  const bool json = std::any_of(texts.begin(), texts.end(), [](const fs::path& file) {
    const std::string kind = ascii_lower(file.extension().string());
    return kind == ".json" || kind == ".jsonl" || kind == ".ndjson";
  });
  if (!any_text) options.tell_idle("data.encoding", "with token files alone");
  if (!json) options.tell_idle("data.field", "without JSON documents");
}

void check_text_options(const Options& options, const std::vector<std::string>& data) {
  std::vector<fs::path> texts;
  for (const std::string& file : matching_files(data))
    if (!is_token_file(options, file)) texts.emplace_back(file);
  check_text_options(options, texts.empty() ? texts : document_files(texts).files, !texts.empty());
}

std::string utf8_option(const Options& options, const std::string& key, const char* flag) {
  auto text = options.get<std::string>(key);
  const size_t good = utf8_prefix(text);
  CHECK_AS(Fault::usage, good == text.size(), flag, ": byte ", good, " is not UTF-8");
  return text;
}

DocumentOptions document_options(const Options& options) {
  DocumentOptions reading;
  reading.field = options.get<std::string>("data.field");
  reading.encoding = text_encoding(options.get<std::string>("data.encoding"));
  return reading;
}

bool is_token_file(const Options& options, const fs::path& path) {
  if (options.has("data.token_dtype")) return true;
  if (fs::is_directory(path)) return false;
  const std::string kind = path.extension().string();
  return kind == ".bin" || kind == ".u16" || kind == ".u32" || has_token_header(path);
}

JsonObject TextSummary::json() const {
  JsonObject kinds;
  for (const auto& [kind, count] : files.left_out) kinds.set(kind, count);
  return JsonObject()
      .set("documents", counts.documents)
      .set("bytes", counts.bytes)
      .set("empty", counts.empty)
      .set("bad", counts.bad)
      .set("unknown", unknown)
      .set("left_out", kinds);
}

std::string listed_tokens(const Tokenizer& tokenizer, std::span<const int32_t> ids,
                          const char* between) {
  return joined(ids, between,
                [&](int32_t id) { return concat(id, " ", json_string(tokenizer.token_text(id))); });
}

std::string first_tokens(const Tokenizer& tokenizer, std::span<const int32_t> ids) {
  return listed_tokens(tokenizer, ids.first(std::min(kShownIds, ids.size())), "  ");
}

EncodeOptions text_policy(const Tokenizer& tokenizer) {
  return {.bos = tokenizer.add_bos(), .eos = tokenizer.add_eos()};
}

TextSummary tokenize_documents(const DocumentFiles& files, const DocumentOptions& reading,
                               const Tokenizer& tokenizer, const EncodeOptions& encode,
                               const std::function<void(std::span<const int32_t>)>& use) {
  TextSummary summary;
  summary.files = files;
  const std::string left = describe_left_out(files);
  if (!left.empty()) log_warning("files of other kinds left out: ", left);
  catch_stop_signals();
  Progress progress("tokenize", 0);
  try {
    summary.counts = read_documents(files.files, reading, [&](const std::string& text) {
      const std::vector<int32_t> ids = tokenizer.encode(text, encode);
      if (summary.tokens == 0) log_info("first ids: ", first_tokens(tokenizer, ids));
      use(ids);
      summary.tokens += ids.size();
      summary.unknown += unknown_characters(tokenizer, text, ids, encode);
      progress.update(static_cast<int64_t>(summary.tokens), "tokens");
      return !stop_requested();
    });
  } catch (const NotText& error) {  // its bytes may be ids
    throw Error(error.what(), error.fault(),
                error.hint() + "; --token-dtype u16 or u32 reads token ids without a header");
  }
  progress.finish();
  const DocumentCounts& counts = summary.counts;
  CHECK(!stop_requested(), "stopped by ", stop_reason(), "; nothing was written");
  CHECK_AS(Fault::bad_file, counts.documents > 0, "no documents in the data (", counts.empty,
           " empty)");
  if (counts.bad > 0) log_warning(counts.bad, " bad lines left out; the first: ", counts.first_bad);
  if (counts.empty > 0) log_info(counts.empty, " empty documents left out");
  warn_of_unknown(tokenizer, summary.unknown);
  return summary;
}

std::string standard_input(uint64_t most_bytes) {
  std::string text;
  std::vector<char> block(1 << 16);
  while (std::cin.read(block.data(), std::ssize(block)) || std::cin.gcount() > 0) {
    text.append(block.data(), static_cast<size_t>(std::cin.gcount()));
    CHECK_AS(Fault::bad_file, text.size() <= most_bytes, "standard input: more than ", most_bytes,
             " bytes");
  }
  return text;
}

std::vector<std::string> token_files(
    const Options& options, const std::vector<std::string>& data,
    const std::function<std::unique_ptr<Tokenizer>()>& open_tokenizer,
    std::vector<JsonObject>& facts) {
  std::vector<std::string> result;
  std::vector<fs::path> texts;  // that follow one another: they share a token file
  std::unique_ptr<Tokenizer> tokenizer;
  const auto finish_texts = [&] {
    if (texts.empty()) return;
    if (!tokenizer) tokenizer = open_tokenizer();
    result.push_back(TextCache(options, *tokenizer).file_of(std::exchange(texts, {}), facts));
  };
  std::vector<fs::path> all;
  for (const std::string& file : matching_files(data)) {
    if (!is_token_file(options, file)) {
      texts.emplace_back(file);
      for (const fs::path& document : document_files({file}).files) all.push_back(document);
      continue;
    }
    all.emplace_back(file);
    finish_texts();
    result.push_back(file);
  }
  warn_of_repeats(all);
  finish_texts();
  return result;
}

}  // namespace mullion
