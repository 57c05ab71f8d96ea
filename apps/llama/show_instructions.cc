// data_llama instructions: what a training would see of instruction data.
#include <algorithm>

#include "apps/llama/data_verbs.h"
#include "apps/llama/instruction_options.h"
#include "apps/llama/model_options.h"
#include "apps/llama/text_data.h"
#include "apps/llama/token_rows.h"
#include "apps/program/log.h"
#include "tensor/check.h"

namespace mullion {

namespace {
using std::filesystem::path;

// Rows by their length before anything is cut: up to 64, 128, 256, ... tokens.
struct Bin {
  int64_t up_to, rows;
};
std::vector<Bin> histogram(const std::vector<int64_t>& lengths) {
  std::vector<Bin> bins;
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  for (int64_t low = 0, high = 64; low < longest; low = high, high *= 2)
    bins.push_back({high, std::count_if(lengths.begin(), lengths.end(),
                                        [&](int64_t n) { return n > low && n <= high; })});
  return bins;
}

// The text of a row with what is learned between >> and <<.
std::string marked_text(const Tokenizer& tokenizer, const TextRow& row) {
  std::string text;
  bool inside = false;
  for (size_t i = 0; i < row.ids.size(); ++i) {
    if ((row.learned[i] != 0) != inside) text += inside ? "<<" : ">>";
    inside = row.learned[i] != 0;
    text += tokenizer.token_bytes(row.ids[i]);
  }
  return text + (inside ? "<<" : "");
}

std::string listing(const Tokenizer& tokenizer, const InstructionRows& rows, int64_t i) {
  const TextRow row = rows.read(i);
  const auto targets = std::count(row.learned.begin() + 1, row.learned.end(), 1);
  std::string text = concat(rows.where(i), ": ", row.ids.size(), " tokens, ", targets,
                            " targets (marked by *)\nids ");
  for (size_t t = 0; t < row.ids.size(); ++t)
    text += concat(" ", row.learned[t] ? "*" : "", row.ids[t]);
  return text + "\n" + marked_text(tokenizer, row) + "\n\n";
}

JsonObject sample(const Tokenizer& tokenizer, const InstructionRows& rows, int64_t i) {
  const TextRow row = rows.read(i);
  std::vector<int64_t> mask(row.learned.begin(), row.learned.end());
  return JsonObject()
      .set("where", rows.where(i))
      .set("ids", row.ids)
      .set("learned", mask)
      .set("text", marked_text(tokenizer, row));
}
}  // namespace

OptionTable instructions_table() {
  OptionTable table("data_llama instructions",
                    "Shows instruction data as a training would see it: ids, targets, lengths, and "
                    "what is cut or left out");
  table
      .add_optional<std::vector<std::string>>("data.files", "FILE",
                                              "JSON lists or lines of JSON, or patterns")
      .repeats()
      .required();
  table.add_optional<path>("model.path", "-m,--model,--tokenizer",
                           "folder, .gguf or tokenizer file that has the tokenizer");
  add_instruction_options(table);
  add_encoding(table);
  table.add("context.size", "--ctx-size,--max-length,--model-max-length", 8192, "tokens a row")
      .at_least(2);
  table.add("show.count", "-n,--count", 3, "rows to print").at_least(0);
  table.add("show.notes", "--notes", 20, "rows that are cut or left out to name").at_least(0);
  table.add_common_without(true, true);
  return table;
}

Outcome show_instructions(const Options& options) {
  CHECK_AS(Fault::usage, options.has("model.path"), "--model is needed: whose tokenizer?");
  const auto tokenizer = open_tokenizer(find_model(options.get<path>("model.path")).base);
  const ChatTemplate chat(options.get<std::string>("data.template"), *tokenizer);
  const auto files = matching_files(options.get<std::vector<std::string>>("data.files"));
  const auto context = options.get<int64_t>("context.size");
  const auto rows = open_instructions(options, files, context, chat, *tokenizer);

  std::vector<JsonObject> samples, notes;
  std::string text;
  for (int64_t i = 0; i < std::min(options.get<int64_t>("show.count"), rows->size()); ++i) {
    text += listing(*tokenizer, *rows, i);
    samples.push_back(sample(*tokenizer, *rows, i));
  }
  text += concat("rows by length before anything is cut (the context has ", context, " tokens)\n");
  std::vector<JsonObject> lengths;
  const auto all = static_cast<int64_t>(rows->full_lengths().size());
  for (const Bin& bin : histogram(rows->full_lengths())) {
    const auto bar = static_cast<size_t>(50 * bin.rows / all);
    text += concat("  up to ", bin.up_to, ": ", bin.rows, " ", std::string(bar, '#'), "\n");
    lengths.push_back(JsonObject().set("up_to", bin.up_to).set("rows", bin.rows));
  }
  const auto named = static_cast<size_t>(options.get<int64_t>("show.notes"));
  if (!rows->notes().empty()) text += "cut or left out\n";
  for (size_t i = 0; i < std::min(named, rows->notes().size()); ++i) {
    const RowNote& note = rows->notes()[i];
    text += concat("  ", note.where, ": ", note.tokens, " tokens: ", note.what, "\n");
    notes.push_back(
        JsonObject().set("where", note.where).set("tokens", note.tokens).set("what", note.what));
  }
  print_text(options, text);
  return describe(*rows, chat)
      .set("histogram", lengths)
      .set("notes", notes)
      .set("samples", samples);
}

}  // namespace mullion
