// data_llama lexicon and lookups: data of the made-up language (data/lexicon.h), which need no
// download.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/llama/data_verbs.h"
#include "apps/program/log.h"
#include "data/lexicon.h"
#include "data/token_file.h"
#include "data/tokenizer.h"
#include "tensor/io/file.h"
#include "tensor/io/file_ops.h"
#include "tensor/io/json.h"
#include "tensor/random.h"

namespace mullion {
namespace {

using nlohmann::json;
using std::filesystem::path;

constexpr uint64_t kLookupStream = 0x6c6f6f6b;  // apart from the documents' own numbers

// A document of pairs in which one key stands once, and is then asked for.
struct Lookup {
  std::vector<int32_t> pairs;  // key, value, key, value, ...
  size_t asked = 0;            // which pair
  int32_t key() const { return pairs[2 * asked]; }
  int32_t value() const { return pairs[2 * asked + 1]; }
};

Lookup make_lookup(const Lexicon& language, uint64_t number, size_t pairs, size_t asked) {
  std::vector<int32_t> ids(2 * pairs + 1);
  language.document(number, ids);
  Lookup lookup{{ids.begin() + 1, ids.end()}, asked};
  // Wherever the key comes again, the nearest other pair stands instead.
  for (size_t i = 0; i < pairs; ++i) {
    if (i == asked || lookup.pairs[2 * i] != lookup.key()) continue;
    for (size_t away = 1; away < pairs; ++away) {
      const size_t other = (i + away) % pairs;
      if (lookup.pairs[2 * other] == lookup.key()) continue;
      std::copy_n(&lookup.pairs[2 * other], 2, &lookup.pairs[2 * i]);
      break;
    }
  }
  return lookup;
}

// Values of the document other than the right one, all different, in a random order with it.
std::vector<int32_t> choices_of(const Lookup& lookup, size_t count, Philox& random) {
  std::vector<int32_t> others;
  for (size_t i = 1; i < lookup.pairs.size(); i += 2) {
    const int32_t value = lookup.pairs[i];
    if (value != lookup.value() && std::find(others.begin(), others.end(), value) == others.end())
      others.push_back(value);
  }
  CHECK_AS(Fault::usage, others.size() + 1 >= count, "--choices ", count, ": a document of ",
           lookup.pairs.size() / 2, " pairs has ", others.size() + 1, " values");
  for (size_t i = others.size() - 1; i > 0; --i)
    std::swap(others[i], others[random.below(static_cast<uint32_t>(i + 1))]);
  others.resize(count - 1);
  others.insert(others.begin() + random.below(static_cast<uint32_t>(count)), lookup.value());
  return others;
}

// Whole rows in a file, made one by one.
class LookupFile {
 public:
  LookupFile(const Options& options, const Tokenizer& tokenizer)
      : tokenizer_(tokenizer),
        format_(options.get<std::string>("lookups.format")),
        choices_(options.get<size_t>("lookups.choices")) {}

  json row(uint64_t number, const Lookup& lookup, Philox& random) const {
    const std::string document = text(lookup.pairs), key = text({lookup.key()});
    const std::string value = text({lookup.value()});
    if (format_ == "topics")
      return {{"test_id", number}, {"prompt", document + key}, {"topics", {value}}};
    if (format_ == "prompts") return {{"prompt", document + key}, {"completion", value}};
    json choices = json::array();
    std::string right;
    for (const int32_t choice : choices_of(lookup, choices_, random)) {
      const std::string label(1, static_cast<char>('A' + choices.size()));
      if (choice == lookup.value()) right = label;
      // Without the space in front, which the evaluation puts there.
      choices.push_back({{"text", text({lookup.key(), choice}).substr(1)}, {"label", label}});
    }
    return {{"id", std::to_string(number)},
            {"question", {{"stem", document}, {"choices", choices}}},
            {"answerKey", right}};
  }

 private:
  std::string text(const std::vector<int32_t>& ids) const { return tokenizer_.decode(ids, {}); }

  const Tokenizer& tokenizer_;
  std::string format_;
  size_t choices_;
};

}  // namespace

OptionTable lexicon_table() {
  OptionTable table("data_llama lexicon",
                    "Makes documents of a small language with a lexicon of its own in each");
  table.add_optional<path>("output.file", "-o,--output", "token file to write").required();
  table.add_optional<path>("output.model_dir", "--model-dir",
                           "also write config.json and a tokenizer for a tiny model");
  table.add("lexicon.heads", "--heads", 2, "heads of that model, of width 64").range(1, 1024);
  table
      .add("lexicon.words", "--words", "tight",
           "how its tokenizer writes a document; tight: \"ba=KO de=LU \", spaced: \" ba: KO de: "
           "LU\"")
      .one_of({"tight", "spaced"});
  table.add("lexicon.rows", "--rows", 1000, "documents").range(1, 100'000'000);
  table.add("lexicon.length", "--length", 128, "tokens of each").range(2, 1 << 20);
  table.add("lexicon.first", "--first-row", 0, "number of the first document");
  table
      .add("lexicon.repeats", "--repeats", 0.0,
           "how often the next key is one that the document has had, rather than the chain's")
      .range(0, 1);
  table.add_common_without(false, true);
  return table;
}

// Large enough for the circuit that looks up what followed a key before.
LlamaConfig lexicon_model(int64_t context, int64_t heads) {
  LlamaConfig config;
  config.vocab_size = kLexiconVocab;
  config.hidden_size = 128;
  config.intermediate_size = 384;
  config.num_hidden_layers = 3;
  // Heads of 64: those of 32 hardly tell 96 keys apart, and lose them when positions are
  // interpolated.
  config.num_attention_heads = config.num_key_value_heads = heads;
  config.head_dim = 64;
  config.max_position_embeddings = context;
  config.rms_norm_eps = 1e-5;
  config.initializer_range = 0.05;  // with 0.02 its attention starts too even and learns slowly
  config.bos_token_id = kLexiconBos;
  config.eos_token_ids = {kLexiconEos};
  return config;
}

Outcome make_lexicon(const Options& options) {
  const path output = options.get<path>("output.file");
  const auto rows = options.get<uint64_t>("lexicon.rows");
  const auto first = options.get<uint64_t>("lexicon.first");
  const auto repeats = options.get<double>("lexicon.repeats");
  std::vector<int32_t> row(options.get<size_t>("lexicon.length"));
  for (const auto& [key, flag] :
       {std::pair{"lexicon.heads", "--heads"}, {"lexicon.words", "--words"}})
    CHECK_AS(Fault::usage, options.has("output.model_dir") || options.is_default(key), flag,
             ": is for the model of --model-dir, which is not given");
  if (options.dry_run) {
    print_result(options, concat(output.string(), ": ", rows, " documents of ", row.size(),
                                 " tokens, ", rows * row.size(), " in all, would be written",
                                 options.has("output.model_dir")
                                     ? concat("; ", options.get<std::string>("output.model_dir"),
                                              ": config.json and a tokenizer")
                                     : ""));
    return JsonObject().set("tokens", rows * row.size());
  }
  if (options.has("output.model_dir")) {
    const path folder = options.get<path>("output.model_dir");
    make_folders(folder);
    write_lexicon_tokenizer(folder, options.get<std::string>("lexicon.words") == "spaced"
                                        ? LexiconWords::spaced
                                        : LexiconWords::tight);
    write_json_file(folder / "config.json",
                    to_json(lexicon_model(std::ssize(row), options.get<int64_t>("lexicon.heads"))));
  }
  TokenFileNotes notes;
  notes.bos = true;
  if (options.has("output.model_dir")) {
    notes.tokenizer_sha256 = load_tokenizer(options.get<path>("output.model_dir"))->hash();
  }
  TokenFileWriter writer(output, TokenWidth::u16, notes);
  const Lexicon language(options.seed());
  for (uint64_t number = first; number < first + rows; ++number) {
    language.document(number, row, static_cast<float>(repeats));
    writer.begin_document();
    writer.append(row);
  }
  writer.finish();
  log_info(output.string(), ": ", rows, " documents of ", row.size(), " tokens");
  return JsonObject().set("output", output.string()).set("tokens", writer.size());
}

OptionTable lookups_table() {
  OptionTable table("data_llama lookups",
                    "Makes questions about documents of the small language, to be evaluated on");
  table
      .add_optional<path>("lookups.model", "-m,--model",
                          "folder with the language's tokenizer, of lexicon --words spaced")
      .required();
  table.add_optional<path>("lookups.output", "-o,--output", "folder to write N_topics.jsonl into")
      .required();
  table
      .add("lookups.format", "--format", "topics",
           "topics: rows of eval_llama topic; choice: of eval_llama choice --task openbookqa; "
           "prompts: of train_llama sft")
      .one_of({"topics", "choice", "prompts"});
  table
      .add("lookups.pairs", "--pairs", std::vector<int64_t>{60}, "pairs of a document, a file each")
      .range(2, 1 << 19);
  table
      .add_optional<double>("lookups.depth", "--depth",
                            "where the pair stands that is asked for, 0 first, 1 last (unset: "
                            "anywhere)")
      .range(0, 1);
  table.add("lookups.choices", "--choices", 4, "answers of choice").range(2, 26);
  table.add("lookups.count", "--count", 50, "questions a file").range(1, 10'000'000);
  table.add("lookups.first", "--first-row", 5'000'000, "number of the first document");
  table.add_common_without(false, true);
  return table;
}

Outcome make_lookups(const Options& options) {
  const path folder = options.get<path>("lookups.output");
  const auto format = options.get<std::string>("lookups.format");
  CHECK_AS(Fault::usage, format == "choice" || options.is_default("lookups.choices"),
           "--choices: is for --format choice");
  const auto tokenizer = load_tokenizer(options.get<path>("lookups.model"));
  CHECK_AS(Fault::usage,
           tokenizer->vocab_size() == kLexiconVocab && tokenizer->token_text(0).starts_with(' '),
           options.get<path>("lookups.model").string(),
           ": is not the tokenizer of lexicon --words spaced");
  const auto count = options.get<uint64_t>("lookups.count");
  const auto first = options.get<uint64_t>("lookups.first");
  const LookupFile file(options, *tokenizer);
  const Lexicon language(options.seed());
  const auto sizes = options.get<std::vector<int64_t>>("lookups.pairs");
  const auto file_name = [&](int64_t size) { return concat(size, "_", format, ".jsonl"); };
  if (options.dry_run) {
    for (const int64_t size : sizes)
      print_result(options, concat((folder / file_name(size)).string(), ": ", count,
                                   " questions would be written"));
    return JsonObject().set("questions", count * sizes.size());
  }
  make_folders(folder);
  for (const int64_t size : sizes) {
    const auto pairs = static_cast<size_t>(size);
    std::string lines;
    for (uint64_t number = first; number < first + count; ++number) {
      Philox random{options.seed(), mix_bits(number, kLookupStream), pairs};
      const size_t asked =
          options.has("lookups.depth")
              ? static_cast<size_t>(std::llround(options.get<double>("lookups.depth") *
                                                 static_cast<double>(pairs - 1)))
              : random.below(static_cast<uint32_t>(pairs));
      const Lookup lookup = make_lookup(language, number, pairs, asked);
      lines += file.row(number, lookup, random).dump() + "\n";
    }
    write_whole_file(folder / file_name(size), lines);
  }
  log_info(folder.string(), ": ", count, " questions in each of ", sizes.size(), " files");
  return JsonObject().set("output", folder.string()).set("questions", count * sizes.size());
}

}  // namespace mullion
