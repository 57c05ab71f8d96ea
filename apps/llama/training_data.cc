// Rows of either kind behind one order, and the batches of a step's passes.
#include "apps/llama/training_data.h"

#include <algorithm>

#include "apps/llama/instruction_options.h"
#include "apps/llama/model_options.h"
#include "apps/llama/text_data.h"
#include "apps/llama/token_rows.h"
#include "apps/program/log.h"
#include "apps/run/ranks.h"
#include "data/token_rows.h"
#include "tensor/check.h"

namespace mullion {

namespace {
constexpr int64_t kPadTo = 64;          // tokens, of rows of different lengths
constexpr int64_t kWindowOfSteps = 16;  // whose rows are sorted by length

std::string name_of(const std::string& key) {
  return key == "data.val" ? "validation data" : "data";
}
}  // namespace

TrainingData::TrainingData(const Options& options, Learns learns, int64_t vocab_size,
                           const std::filesystem::path& tokenizer,
                           const std::string& tokenizer_hash)
    : options_(options),
      learns_(learns),
      tokenizer_path_(tokenizer),
      tokenizer_hash_(tokenizer_hash),
      vocab_size_(vocab_size),
      context_(options.get<int64_t>("context.size")),
      batch_(options.get<int64_t>("train.batch_size")),
      accumulate_(options.get<int64_t>("train.grad_accum_steps")) {
  const bool texts = learns == Learns::texts;
  packed_ = !texts && options.get<bool>("data.pack");
  if (texts) {
    auto all = options.get<std::vector<std::string>>("data.train");
    if (options.has("data.val"))
      for (const std::string& file : options.get<std::vector<std::string>>("data.val"))
        all.push_back(file);
    check_text_options(options, all);
  }
  rows_ = texts ? open_texts("data.train") : open_conversations("data.train", packed_);
  if (options.has("data.val"))
    validation_ = texts ? open_texts("data.val") : open_conversations("data.val", false);
  for (int64_t i = 0; i < (texts ? 1 : rows_->size()); ++i)
    longest_ = std::max(longest_, rows_->length(i));
  const bool shuffle = options.get<bool>("data.shuffle");
  order_.emplace(
      OrderOptions{.size = rows_->size(),
                   .seed = options.seed(),
                   .shuffle = shuffle,
                   .draw = OrderDraw::bounded,
                   .lengths = texts || packed_ ? std::vector<int64_t>{} : row_lengths(*rows_),
                   .window = kWindowOfSteps * rows_a_step(),
                   .chunk = batch_});
}

std::unique_ptr<TextRows> TrainingData::open_texts(const char* key) {
  std::vector<std::string> files;
  first_rank_first([&] {  // what it tokenizes, the others find
    files = token_files(
        options_, options_.get<std::vector<std::string>>(key),
        [&] { return open_tokenizer(tokenizer_path_, vocab_size_); }, text_facts_);
  });
  auto rows =
      std::make_unique<TokenRows>(files, token_file_options(options_, vocab_size_), context_);
  for (const auto& file : rows->files()) require_same_tokenizer(*file, tokenizer_hash_);
  // The fingerprint of token files is over their ends alone.
  const std::string name = name_of(key), contents = rows->contents();
  if (ranks()) require_same_on_all_ranks({{name, contents}});
  if (name == "data")
    contents_ = {{"contents of the data", contents}};
  else
    validation_contents_ = {{name, contents}};
  return rows;
}

std::unique_ptr<TextRows> TrainingData::open_conversations(const char* key, bool packed) {
  const auto tokenizer = open_tokenizer(tokenizer_path_, vocab_size_);
  const ChatTemplate chat(options_.get<std::string>("data.template"), *tokenizer);
  chat_template_ = name_of(chat.format());
  auto rows =
      open_instructions(options_, matching_files(options_.get<std::vector<std::string>>(key)),
                        context_, chat, *tokenizer);
  if (!instruction_facts_) instruction_facts_ = mullion::describe(*rows, chat);
  const std::string name = name_of(key);
  if (ranks()) require_same_on_all_ranks({{name, rows->fingerprint()}});
  if (name != "data") validation_contents_ = {{name, rows->fingerprint()}};
  if (!packed) return rows;
  const int64_t count = rows->size();
  auto result = pack_rows(std::move(rows), context_, options_.get<bool>("data.shuffle"));
  log_info("packed     ", count, " rows in ", result->size(), " of ", context_, " tokens");
  return result;
}

double TrainingData::mean_length() const {
  if (learns_ == Learns::texts) return static_cast<double>(context_);
  return static_cast<double>(rows_->tokens()) / static_cast<double>(rows_->size());
}

double TrainingData::steps_an_epoch() const {
  return static_cast<double>(rows_->size()) / static_cast<double>(rows_a_step());
}

TextBatch TrainingData::batch_of(const std::vector<TextRow>& rows, bool packed) const {
  return collate(rows, context_, kPadTo, packed);
}

std::vector<TextBatch> TrainingData::step(int64_t step, int64_t first, int64_t stride) {
  std::vector<TextBatch> batches;
  for (int64_t pass = first; pass < accumulate_; pass += stride) {
    int64_t position = step * rows_a_step() + pass * batch_;
    std::vector<TextRow> rows;
    for (int64_t i = 0; i < batch_; ++i) rows.push_back(rows_->read(order_->at(position++)));
    batches.push_back(batch_of(rows, packed_));
  }
  return batches;
}

TextBatch TrainingData::validation_batch(int64_t first, int64_t count) const {
  std::vector<TextRow> rows;
  for (int64_t i = 0; i < count; ++i) rows.push_back(validation_->read(first + i));
  return batch_of(rows, false);
}

void TrainingData::add_facts(JsonObject& facts) const {
  if (!text_facts_.empty()) facts.set("texts", text_facts_);
  if (instruction_facts_) facts.set("instructions", *instruction_facts_);
}

std::string TrainingData::describe() const {
  std::string text = concat(rows_->tokens(), " tokens, ", rows_->size(), " rows; ", rows_a_step(),
                            " a step = ", batch_, " x ", accumulate_);
  if (learns_ == Learns::instructions)
    text += packed_ ? concat("; packed, ", static_cast<int64_t>(100 * mean_length()) / context_,
                             " % of the context filled")
                    : concat("; the longest has ", longest_, " tokens");
  return text;
}

std::string TrainingData::pass() const {
  return concat(rows_->size(), rows_->size() == 1 ? " row" : " rows",
                learns_ == Learns::texts || packed_
                    ? concat(" of ", packed_ ? "up to " : "", context_, " tokens")
                    : "");
}

int64_t TrainingData::dropped_tokens() const {
  return learns_ == Learns::texts ? rows_->tokens() - rows_->size() * context_ : 0;
}

Tensor tensor_of(const std::vector<int64_t>& values, const TextBatch& batch) {
  return Tensor::from(values, {batch.rows, batch.tokens});
}

}  // namespace mullion
