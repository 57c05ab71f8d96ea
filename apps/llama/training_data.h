// What a LLaMA is trained on: rows of texts (pretrain) or of instructions (sft), in an order, as
// batches of tensors.
#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/options/options.h"
#include "apps/program/json_object.h"
#include "apps/run/run_checkpoint.h"
#include "data/order.h"
#include "data/text_rows.h"
#include "data/tokenizer.h"
#include "tensor/tensor.h"

namespace mullion {

enum class Learns : uint8_t { texts, instructions };

class TrainingData {
 public:
  // Opens --data and --val-data for a model of `vocab_size` ids and the tokenizer at `tokenizer`
  // (its hash, "" for none). Error(usage) where ranks have found other rows than the first one.
  TrainingData(const Options& options, Learns learns, int64_t vocab_size,
               const std::filesystem::path& tokenizer, const std::string& tokenizer_hash);

  const TextRows& rows() const { return *rows_; }
  const TextRows* validation() const { return validation_.get(); }  // or null
  bool packed() const { return packed_; }
  // Whether batches have other shapes and numbers of targets from step to step.
  bool varies() const { return learns_ == Learns::instructions; }
  int64_t longest() const { return longest_; }  // tokens of a row
  double mean_length() const;
  // Rows a step, and how many such are an epoch.
  int64_t rows_a_step() const { return batch_ * accumulate_; }
  double steps_an_epoch() const;
  // The micro-batches of a step, each of batch_size rows: passes `first`, `first` + `stride`, ...
  // of it.
  std::vector<TextBatch> step(int64_t step, int64_t first = 0, int64_t stride = 1);
  // Validation rows [first, first + count).
  TextBatch validation_batch(int64_t first, int64_t count) const;
  // For env.json and --json: the texts tokenized, or what the instructions are.
  void add_facts(JsonObject& facts) const;
  // What rows().fingerprint() does not see, for RunSettings::data, and the validation's for
  // RunSettings::judged.
  const Identity& contents() const { return contents_; }
  const Identity& validation_contents() const { return validation_contents_; }
  // The name of the chat template, "" for texts.
  const std::string& chat_template() const { return chat_template_; }
  std::string describe() const;
  // What a pass goes over, "120 rows of 512 tokens", and the tokens that are in no row.
  std::string pass() const;
  int64_t dropped_tokens() const;

 private:
  std::unique_ptr<TextRows> open_texts(const char* key);
  std::unique_ptr<TextRows> open_conversations(const char* key, bool packed);
  TextBatch batch_of(const std::vector<TextRow>& rows, bool packed) const;

  const Options& options_;
  const Learns learns_;
  const std::filesystem::path tokenizer_path_;
  const std::string tokenizer_hash_;
  const int64_t vocab_size_, context_, batch_, accumulate_;
  bool packed_ = false;
  std::unique_ptr<TextRows> rows_, validation_;
  std::optional<SampleOrder> order_;
  int64_t longest_ = 0;
  std::string chat_template_;
  Identity contents_, validation_contents_ = {{"validation data", "none"}};
  std::vector<JsonObject> text_facts_;
  std::optional<JsonObject> instruction_facts_;
};

// ids or targets of a batch.
Tensor tensor_of(const std::vector<int64_t>& values, const TextBatch& batch);

}  // namespace mullion
