// data_llama compose: a set of instructions drawn from named sources in stated numbers.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/llama/data_verbs.h"
#include "apps/llama/instruction_options.h"
#include "apps/llama/model_options.h"
#include "apps/llama/recipe.h"
#include "apps/llama/token_rows.h"
#include "apps/program/log.h"
#include "apps/program/progress.h"
#include "apps/program/signals.h"
#include "data/conversation.h"
#include "data/order.h"
#include "data/utf8.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/file_place.h"
#include "tensor/io/json.h"
#include "tensor/io/sha256.h"
#include "tensor/words.h"

namespace mullion {

namespace {
namespace fs = std::filesystem;
constexpr double kCharactersAToken = 4;  // of English, for how long a passage to try
constexpr int64_t kTriesARow = 200;
constexpr uint64_t kMostBookBytes = 64 << 20;

// What became of the rows that a source gave.
struct SourceCounts {
  int64_t taken = 0, duplicates = 0, too_short = 0, too_long = 0;
  uint64_t tokens = 0;
};

// The same words in small letters, by which repetitions are found.
std::string words_of(const std::string& text) {
  std::string words;
  for (const char c : ascii_lower(text)) {
    const bool space = c == ' ' || c == '\n' || c == '\t' || c == '\r';
    if (!space) words += c;
    if (space && !words.empty() && words.back() != ' ') words += ' ';
  }
  return words;
}

class Composer {
 public:
  Composer(const Recipe& recipe, const Tokenizer* tokenizer, fs::path sources)
      : recipe_(recipe), tokenizer_(tokenizer), sources_(std::move(sources)) {}

  void draw(const RecipeSource& source) {
    SourceCounts counts;
    std::vector<JsonObject> files;
    std::vector<std::string> patterns;
    for (const std::string& pattern : source.files)
      patterns.push_back((sources_ / pattern).string());
    const std::vector<std::string> found = matching_files(patterns);
    warn_of_repeats({found.begin(), found.end()});
    for (const std::string& file : found)
      files.push_back(JsonObject()
                          .set("file", file)
                          .set("bytes", fs::file_size(file))
                          .set("sha256", sha256_file(file)));
    if (source.task)
      draw_tasks(source, found, counts);
    else
      draw_rows(source, found, counts);
    if (counts.taken < source.rows)
      throw Error(concat("source ", source.name, ": ", counts.taken, " rows of the ", source.rows,
                         " asked for; left out: ", counts.duplicates, " that were there before, ",
                         counts.too_short, " too short, ", counts.too_long, " too long"),
                  Fault::bad_file, "--rows N makes a smaller set in the same proportions");
    log_info(source.name, ": ", counts.taken, " rows, ", counts.tokens, " tokens; left out ",
             counts.duplicates, " repeated, ", counts.too_short, " too short, ", counts.too_long,
             " too long");
    facts_.push_back(JsonObject()
                         .set("name", source.name)
                         .set("licence", source.licence)
                         .set("url", source.url)
                         .set("rows", counts.taken)
                         .set("tokens", counts.tokens)
                         .set("duplicates", counts.duplicates)
                         .set("too_short", counts.too_short)
                         .set("too_long", counts.too_long)
                         .set("files", files));
  }

  nlohmann::json rows() const {
    nlohmann::json list = nlohmann::json::array();
    const auto count = std::ssize(rows_);
    for (const int64_t i : epoch_order(count, recipe_.seed, 0))
      list.push_back(rows_[static_cast<size_t>(i)]);
    return list;
  }
  const std::vector<JsonObject>& facts() const { return facts_; }

 private:
  // All rows of the files in a random order, as far as they are needed.
  void draw_rows(const RecipeSource& source, const std::vector<std::string>& files,
                 SourceCounts& counts) {
    std::vector<nlohmann::json> all;
    for (const std::string& file : files)
      tell_unused(read_conversations(file, {}, [&](const Conversation& c) {
        const size_t system = c.turns[0].role == Role::system ? 1 : 0;
        CHECK_AS(Fault::bad_file, !c.is_text && c.turns.size() == system + 2, c.where,
                 ": a recipe takes rows of one question and one answer");
        const Turn &asked = c.turns[system], &answer = c.turns[system + 1];
        nlohmann::json row = {
            {"instruction", asked.content}, {"input", asked.input}, {"output", answer.content}};
        if (system) row["system"] = c.turns[0].content;
        all.push_back(std::move(row));
        return true;
      }));
    const uint64_t seed = seed_of(source);
    for (const int64_t i : epoch_order(std::ssize(all), seed, 0)) {
      if (counts.taken == source.rows) break;
      take(all[static_cast<size_t>(i)], counts);
    }
  }

  void draw_tasks(const RecipeSource& source, const std::vector<std::string>& files,
                  SourceCounts& counts) {
    std::vector<Book> books;
    for (const std::string& file : files)
      books.push_back(parse_book(decode_utf8(read_whole_file(file, kMostBookBytes), file)));
    if (*source.task == BookTask::opening) leave_out_chapterless(source, files, books);
    Progress progress(source.name, source.rows);
    for (int64_t i = 0; counts.taken < source.rows && i < kTriesARow * source.rows; ++i) {
      Philox random{seed_of(source), static_cast<uint64_t>(i), 0};
      const Book& book = books[random.below(static_cast<uint32_t>(books.size()))];
      const auto most = static_cast<float>(recipe_.max_tokens > 0 ? recipe_.max_tokens : 4096);
      const float tokens = random.uniform(static_cast<float>(recipe_.min_tokens), most);
      const auto made = make_book_task(*source.task, book,
                                       static_cast<size_t>(tokens * kCharactersAToken), random);
      if (!made) continue;
      take({{"instruction", made->instruction}, {"input", ""}, {"output", made->output}}, counts);
      progress.update(counts.taken, "rows");
      CHECK(!stop_requested(), "stopped by ", stop_reason(), "; nothing was written");
    }
    progress.finish();
  }

  // Where no heading is found, nothing says where a chapter begins.
  static void leave_out_chapterless(const RecipeSource& source,
                                    const std::vector<std::string>& files,
                                    std::vector<Book>& books) {
    std::vector<std::string> without;
    for (size_t i = 0; i < files.size(); ++i)
      if (books[i].chapters.empty()) without.push_back(files[i]);
    const std::string names = joined(without);
    std::erase_if(books, [](const Book& book) { return book.chapters.empty(); });
    CHECK_AS(
        Fault::bad_file, !books.empty(), "source ", source.name,
        ": no book has chapters with a heading (CHAPTER, BOOK, PART, a Roman number): ", names);
    if (!without.empty())
      log_warning("source ", source.name, ": ", without.size(),
                  " books without headings give no opening of a chapter: ", names);
  }

  void take(nlohmann::json row, SourceCounts& counts) {
    const std::string asked =
        row["instruction"].get<std::string>() + "\n\n" + row["input"].get<std::string>();
    uint64_t tokens = 0;
    if (tokenizer_) {
      tokens = tokenizer_->encode(asked).size() +
               tokenizer_->encode(row["output"].get<std::string>()).size();
      if (tokens < static_cast<uint64_t>(recipe_.min_tokens)) return void(++counts.too_short);
      if (recipe_.max_tokens > 0 && tokens > static_cast<uint64_t>(recipe_.max_tokens))
        return void(++counts.too_long);
    }
    if (!seen_.insert(sha256_hex(words_of(asked))).second) return void(++counts.duplicates);
    ++counts.taken;
    counts.tokens += tokens;
    rows_.push_back(std::move(row));
  }

  uint64_t seed_of(const RecipeSource& source) const {
    uint64_t seed = recipe_.seed;
    for (const char c : source.name) seed = mix_bits(seed, static_cast<uint8_t>(c));
    return seed;
  }

  const Recipe& recipe_;
  const Tokenizer* const tokenizer_;
  const fs::path sources_;
  std::set<std::string> seen_;
  std::vector<nlohmann::json> rows_;
  std::vector<JsonObject> facts_;
};

}  // namespace

OptionTable compose_table() {
  OptionTable table("data_llama compose",
                    "Draws instructions from named sources in stated numbers, as a recipe says");
  table.add_optional<fs::path>("recipe.file", "RECIPE", "TOML file (recipes/)").required();
  table.add_optional<fs::path>("output.file", "-o,--output", "JSON file to write").required();
  table.add_optional<fs::path>("recipe.sources", "--sources",
                               "folder of the sources' files (unset: that of the recipe)");
  table.add_optional<fs::path>("model.path", "-m,--model,--tokenizer",
                               "whose tokens min_tokens and max_tokens count");
  table
      .add_optional<int64_t>("recipe.rows", "--rows",
                             "rows of all sources, in the recipe's proportions (unset: its own)")
      .at_least(1);
  table
      .add_optional<int64_t>("recipe.seed", "--seed", "of the choice of rows (unset: the recipe's)")
      .any_integer();
  table.add_common_without(false, true);
  return table;
}

Outcome compose(const Options& options) {
  const auto file = options.get<fs::path>("recipe.file"),
             output = options.get<fs::path>("output.file");
  check_file_place(output);  // before the work
  Recipe recipe = read_recipe(file);
  if (options.has("recipe.rows")) scale_rows(recipe, options.get<int64_t>("recipe.rows"));
  if (options.has("recipe.seed")) recipe.seed = options.get<uint64_t>("recipe.seed");
  std::unique_ptr<Tokenizer> tokenizer;
  if (options.has("model.path"))
    tokenizer = load_tokenizer(find_model(options.get<fs::path>("model.path")).base);
  CHECK_AS(Fault::usage, tokenizer || (recipe.min_tokens == 0 && recipe.max_tokens == 0),
           "--model is needed: in whose tokens are min_tokens and max_tokens of ", file.string(),
           "?");
  fs::path sources = file.has_parent_path() ? file.parent_path() : fs::path(".");
  if (options.has("recipe.sources")) sources = options.get<fs::path>("recipe.sources");
  if (options.dry_run) {
    for (const RecipeSource& source : recipe.sources)
      print_result(options, concat(source.name, ": ", source.rows, " rows"));
    print_result(options, concat(output.string(), ": ", recipe.rows, " rows would be written"));
    return JsonObject().set("rows", recipe.rows);
  }
  catch_stop_signals();
  Composer composer(recipe, tokenizer.get(), sources);
  for (const RecipeSource& source : recipe.sources) composer.draw(source);

  const std::string text = composer.rows().dump(1, ' ', false) + "\n";
  write_whole_file(output, text);
  const JsonObject manifest = JsonObject()
                                  .set("recipe", recipe.name)
                                  .set("recipe_sha256", sha256_file(file))
                                  .set("seed", recipe.seed)
                                  .set("tokenizer_sha256", tokenizer ? tokenizer->hash() : "")
                                  .set("min_tokens", recipe.min_tokens)
                                  .set("max_tokens", recipe.max_tokens)
                                  .set("rows", recipe.rows)
                                  .set("file", output.filename().string())
                                  .set("sha256", sha256_hex(text))
                                  .set("sources", composer.facts());
  fs::path beside = output;
  beside += ".manifest.json";
  write_json_file(beside, parse_json(manifest.text(), beside.string()));
  log_info(output.string(), ": ", recipe.rows, " rows; ", beside.string(), " says of what");
  return manifest;
}

}  // namespace mullion
