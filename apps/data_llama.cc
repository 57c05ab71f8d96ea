// Prepares text for the language models:
//   data_llama tokenize --model DIR --data book.txt --output book.bin
//   data_llama info book.bin        data_llama show book.bin --model DIR
//   data_llama check book.bin --model DIR        data_llama split book.bin --val-size 0.1
//   data_llama lexicon --rows 1000 --length 128 --output made.bin --model-dir tiny
//   data_llama lookups --pairs 60,120 --model tiny --format topics --output lookups
//   data_llama instructions rows.json --model DIR
//   data_llama compose recipes/longalpaca-plus-open.toml --sources books -o rows.json
// Each document becomes [BOS] text [EOS] as the tokenizer's own policy says, one after another in
// one token file (data/token_file.h).
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/llama/data_verbs.h"
#include "apps/llama/instruction_options.h"
#include "apps/llama/model_options.h"
#include "apps/llama/text_data.h"
#include "apps/llama/token_rows.h"
#include "apps/program/dry_run.h"
#include "apps/program/log.h"
#include "apps/program/main.h"
#include "data/token_file.h"
#include "data/tokenizer.h"
#include "tensor/check.h"
#include "tensor/io/file_place.h"

namespace mullion {
namespace {

using std::filesystem::path;
constexpr uint64_t kCopyTokens = 1 << 16;

std::optional<TokenWidth> width_option(const Options& options) {
  if (!options.has("tokens.dtype")) return std::nullopt;
  return options.get<std::string>("tokens.dtype") == "u16" ? TokenWidth::u16 : TokenWidth::u32;
}

void add_width(OptionTable& table, const std::string& help) {
  table.add_optional<std::string>("tokens.dtype", "--token-dtype", help).one_of({"u16", "u32"});
}

void add_model(OptionTable& table) {
  table.add_optional<path>("model.path", "-m,--model,--tokenizer",
                           "folder, .gguf or tokenizer file that has the tokenizer");
}

std::unique_ptr<Tokenizer> tokenizer_option(const Options& options) {
  if (!options.has("model.path")) return nullptr;
  return open_tokenizer(find_model(options.get<path>("model.path")).base);
}

JsonObject describe(const Tokenizer& tokenizer) {
  JsonObject out;
  out.set("kind", tokenizer.parts().model == "llama" ? "SentencePiece BPE" : "byte-level BPE");
  if (!tokenizer.parts().pre.empty()) out.set("pre_tokenizer", tokenizer.parts().pre);
  out.set("vocab_size", tokenizer.vocab_size());
  if (tokenizer.bos()) out.set("bos", *tokenizer.bos());
  out.set("eos", tokenizer.eos_ids());
  if (tokenizer.unk()) out.set("unk", *tokenizer.unk());
  if (tokenizer.pad()) out.set("pad", *tokenizer.pad());
  out.set("add_bos", tokenizer.add_bos()).set("add_eos", tokenizer.add_eos());
  JsonObject origins;
  for (const char* what : {"bos", "eos", "more_eos", "unk", "pad", "add_bos", "add_eos"}) {
    const auto found = tokenizer.parts().origins.find(what);
    const bool policy = std::string_view(what).starts_with("add_");
    if (found != tokenizer.parts().origins.end())
      origins.set(what, found->second);
    else if (policy)
      origins.set(what, "the default of its kind");
  }
  out.set("origins", origins).set("notes", tokenizer.parts().notes);
  return out.set("sha256", tokenizer.hash());
}

JsonObject describe(const TokenFile& file) {
  JsonObject out;
  out.set("file", file.name()).set("tokens", file.size());
  out.set("dtype", file.width() == TokenWidth::u16 ? "u16" : "u32");
  out.set("header", file.has_header()).set("max_id", file.max_id());
  const TokenFileNotes& notes = file.notes();
  if (!notes.documents.empty()) out.set("documents", notes.documents.size());
  if (!notes.tokenizer_sha256.empty()) {
    out.set("bos", notes.bos).set("eos", notes.eos).set("tokenizer_sha256", notes.tokenizer_sha256);
  }
  return out;
}

OptionTable tokenize_table() {
  OptionTable table("data_llama tokenize", "Turns text into a token file");
  add_model(table);
  table
      .add_optional<std::vector<path>>("data.files", "--data",
                                       "text files, .md, .jsonl, .json, or folders of them")
      .repeats()  // with a warning, as wherever files are read as data
      .required();
  add_text_options(table);
  table.add_optional<path>("output.file", "-o,--output", "token file to write").required();
  table.add_optional<bool>("tokens.bos", "--bos",
                           "BOS before each document (unset: as the tokenizer does)");
  table.add_optional<bool>("tokens.eos", "--eos",
                           "EOS after each document (unset: as the tokenizer does)");
  table.add("tokens.parse_specials", "--parse-specials", false,
            "let texts like </s> become control tokens");
  add_width(table, "write ids without a header, as u16 or u32 (unset: with a header)");
  table.add_common_without(true, true);
  return table;
}

// Written over, it would be lost.
void refuse_source(const path& output, const path& source) {
  std::error_code absent;
  CHECK_AS(Fault::usage, !std::filesystem::equivalent(output, source, absent), output.string(),
           ": is to be written, and is what is read");
}

Outcome tokenize(const Options& options) {
  CHECK_AS(Fault::usage, options.has("model.path"), "--model is needed: whose tokenizer?");
  const auto tokenizer = tokenizer_option(options);
  EncodeOptions encode;
  encode.bos = options.has("tokens.bos") ? options.get<bool>("tokens.bos") : tokenizer->add_bos();
  encode.eos = options.has("tokens.eos") ? options.get<bool>("tokens.eos") : tokenizer->add_eos();
  encode.parse_specials = options.get<bool>("tokens.parse_specials");
  TokenFileNotes notes;
  notes.tokenizer_sha256 = tokenizer->hash();
  notes.bos = encode.bos;
  notes.eos = encode.eos;
  const auto plain = width_option(options);
  const path output = options.get<path>("output.file");
  check_file_place(output);
  const auto files = document_files(options.get<std::vector<path>>("data.files"));
  for (const path& source : files.files) refuse_source(output, source);
  check_text_options(options, files.files, true);
  warn_of_repeats(files.files);
  if (options.dry_run) {
    print_result(options, concat(files.files.size(), " files, to be written as ", output.string()));
    return JsonObject().set("files", files.files.size());
  }

  TokenFileWriter writer(output, plain.value_or(token_width(tokenizer->vocab_size())), notes,
                         !plain);
  const TextSummary summary = tokenize_documents(files, document_options(options), *tokenizer,
                                                 encode, [&](std::span<const int32_t> ids) {
                                                   writer.begin_document();
                                                   writer.append(ids);
                                                 });
  writer.set_unknown(summary.unknown);
  writer.finish();
  log_info(output.string(), ": ", writer.size(), " tokens of ", summary.counts.documents,
           " documents, ", summary.counts.bytes, " bytes");
  return summary.json()
      .set("output", output.string())
      .set("tokens", writer.size())
      .set("bos", encode.bos)
      .set("eos", encode.eos)
      .set("tokenizer_sha256", tokenizer->hash());
}

TokenFile open_tokens(const Options& options, const Tokenizer* tokenizer) {
  TokenFileOptions reading;
  reading.width = width_option(options);
  if (tokenizer) reading.vocab_size = tokenizer->vocab_size();
  return TokenFile(options.get<path>("tokens.file"), reading);
}

void add_token_file(OptionTable& table) {
  table.add_optional<path>("tokens.file", "FILE", "token file").required();
  add_width(table, "the ids of a file without a header (unset: refused)");
}

OptionTable info_table() {
  OptionTable table("data_llama info", "Describes a token file, a tokenizer, or both");
  table.add_optional<path>("tokens.file", "FILE", "token file");
  add_width(table, "the ids of a file without a header (unset: refused)");
  table.at("tokens.dtype").only_with("tokens.file");
  add_model(table);
  table.add_common_without(true, true);
  return table;
}

Outcome info(const Options& options) {
  const auto tokenizer = tokenizer_option(options);
  CHECK_AS(Fault::usage, tokenizer || options.has("tokens.file"),
           "info needs a token file, --model, or both");
  JsonObject out;
  if (options.has("tokens.file")) out = describe(open_tokens(options, tokenizer.get()));
  if (tokenizer) out.set("tokenizer", describe(*tokenizer));
  print_text(options, out.text() + "\n");
  return out;
}

OptionTable check_table() {
  OptionTable table("data_llama check", "Checks a token file against a model's tokenizer");
  add_token_file(table);
  add_model(table);
  table.add_common_without(true, true);
  return table;
}

Outcome check(const Options& options) {
  const auto tokenizer = tokenizer_option(options);
  TokenFile file = open_tokens(options, tokenizer.get());
  if (tokenizer) file.require_tokenizer(*tokenizer);
  bool compared = tokenizer && !file.notes().tokenizer_sha256.empty();
  print_text(options,
             concat(file.name(), ": ", file.size(), " tokens, all ids in range; tokenizer ",
                    compared ? "the same" : "not compared", "\n"));
  return describe(file).set("ok", true).set("tokenizer_compared", compared);
}

OptionTable show_table() {
  OptionTable table("data_llama show", "Prints tokens of a file, or of a text, with their ids");
  table.add_optional<path>("tokens.file", "FILE", "token file");
  add_width(table, "the ids of a file without a header (unset: refused)");
  add_model(table);
  table.add_optional<std::string>("show.text", "--text", "show this text instead of a file");
  table.add("show.begin", "--begin", 0, "first token");
  table.add_optional<int64_t>("show.document", "--document", "begin at this document, from 0");
  table.add("show.count", "-n,--count", 64, "number of tokens").at_least(1);
  for (const char* key :
       {"tokens.file", "tokens.dtype", "show.begin", "show.document", "show.count"})
    table.at(key).not_with("show.text");
  table.add_common_without(true, true);
  return table;
}

std::vector<int32_t> shown_ids(const Options& options, const Tokenizer& tokenizer) {
  if (options.has("show.text")) {
    EncodeOptions encode;
    encode.bos = tokenizer.add_bos();
    encode.eos = tokenizer.add_eos();
    encode.parse_specials = true;
    return tokenizer.encode(utf8_option(options, "show.text", "--text"), encode);
  }
  CHECK_AS(Fault::usage, options.has("tokens.file"), "show needs a token file or --text");
  TokenFile file = open_tokens(options, &tokenizer);
  file.require_tokenizer(tokenizer);
  auto begin = options.get<uint64_t>("show.begin");
  if (options.has("show.document")) {
    auto document = options.get<uint64_t>("show.document");
    const auto& documents = file.notes().documents;
    CHECK_AS(Fault::usage, document < documents.size(), "--document ", document, ": the file has ",
             documents.size(), " (from 0)");
    begin += documents[document];
  }
  CHECK_AS(Fault::usage, begin < file.size(), "--begin ", begin, ": the file has ", file.size(),
           " tokens");
  return file.read(begin, std::min(options.get<uint64_t>("show.count"), file.size() - begin));
}

Outcome show(const Options& options) {
  const auto tokenizer = tokenizer_option(options);
  CHECK_AS(Fault::usage, tokenizer, "--model is needed: whose tokenizer?");
  const std::vector<int32_t> ids = shown_ids(options, *tokenizer);
  const std::string text = tokenizer->decode(ids, {.specials = true});
  print_text(options, listed_tokens(*tokenizer, ids, "\n") + "\n\n" + text + "\n");
  return JsonObject().set("tokens", ids.size()).set("ids", ids).set("text", text);
}

OptionTable split_table() {
  OptionTable table("data_llama split",
                    "Cuts a token file in two: the last documents become validation data");
  add_token_file(table);
  table.add("split.val_size", "--val-size", 0.01, "fraction of the tokens for validation")
      .range(1e-9, 1 - 1e-9);
  table.add_optional<path>("split.train", "--train-output", "unset: FILE with -train in its name");
  table.add_optional<path>("split.val", "--val-output", "unset: FILE with -val in its name");
  table.add_common_without(true, true);
  return table;
}

// The tokens [begin, end) of `file` with the documents that begin among them.
void copy_tokens(const TokenFile& file, uint64_t begin, uint64_t end, const path& output) {
  TokenFileWriter writer(output, file.width(), file.notes(), file.has_header());
  const auto& documents = file.notes().documents;
  auto next = std::lower_bound(documents.begin(), documents.end(), begin);
  while (begin < end) {
    if (next != documents.end() && *next == begin) {
      writer.begin_document();
      ++next;
    }
    uint64_t stop = std::min(end, begin + kCopyTokens);
    if (next != documents.end()) stop = std::min(stop, *next);
    writer.append(file.read(begin, stop - begin));
    begin = stop;
  }
  writer.finish();
}

Outcome split(const Options& options) {
  const path input = options.get<path>("tokens.file");
  auto named = [&](const char* key, const char* suffix) {
    if (options.has(key)) return options.get<path>(key);
    return input.parent_path() / (input.stem().string() + suffix + input.extension().string());
  };
  const path train = named("split.train", "-train"), val = named("split.val", "-val");
  for (const path& output : {train, val}) {
    check_file_place(output);
    refuse_source(output, input);
  }
  const auto place = [](const path& file) {
    return std::filesystem::weakly_canonical(std::filesystem::absolute(file));
  };
  CHECK_AS(Fault::usage, place(train) != place(val), "--train-output and --val-output: both are ",
           val.string());
  TokenFile file = open_tokens(options, nullptr);
  const double wanted =
      (1 - options.get<double>("split.val_size")) * static_cast<double>(file.size());
  auto cut = static_cast<uint64_t>(std::llround(wanted));
  // At the document that begins nearest to it, never the first; without documents, at the token.
  const auto& documents = file.notes().documents;
  if (documents.size() > 1) {
    auto after = std::lower_bound(documents.begin() + 1, documents.end(), cut);
    bool earlier = after == documents.end() ||
                   (after - documents.begin() > 1 && cut - *(after - 1) < *after - cut);
    cut = earlier ? *(after - 1) : *after;
  }
  CHECK_AS(Fault::usage, cut > 0 && cut < file.size(), input.string(), ": ", file.size(),
           " tokens are too few for this --val-size");
  if (options.dry_run) {
    print_result(options, concat(train.string(), " would have ", cut, " tokens, ", val.string(),
                                 " ", file.size() - cut));
    return JsonObject().set("train_tokens", cut).set("val_tokens", file.size() - cut);
  }
  copy_tokens(file, 0, cut, train);
  copy_tokens(file, cut, file.size(), val);
  log_info(train.string(), ": ", cut, " tokens; ", val.string(), ": ", file.size() - cut);
  return JsonObject()
      .set("train", train.string())
      .set("train_tokens", cut)
      .set("val", val.string())
      .set("val_tokens", file.size() - cut);
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) {
  using namespace mullion;
  return run_program(argc, argv, "Prepares text for the language models.",
                     {{tokenize_table(), tokenize},
                      without_dry_run({info_table(), info}),
                      without_dry_run({check_table(), check}),
                      without_dry_run({show_table(), show}),
                      {split_table(), split},
                      {lexicon_table(), make_lexicon},
                      {lookups_table(), make_lookups},
                      without_dry_run({instructions_table(), show_instructions}),
                      {compose_table(), compose}});
}
