// LLaMA models and adapters as transformers, gguf and PEFT write them: the logits for eight tokens
// against those tools' own.
//
// The tolerance: both sides compute in f32. A logit is a sum over 16 to 32 terms of the last norm,
// behind two blocks of sums over at most 256; rounding gives about sqrt(300) 2^-24 of the size of
// the values, here below 30: 3e-5. The values in the rows are rounded to 1e-6.
#include <nlohmann/json.hpp>

#include "apps/llama/model_options.h"
#include "models/llama/hf_folder.h"
#include "models/llama/merge.h"
#include "tests/apps/temporary_run.h"
#include "tests/real/rows.h"

namespace mullion {
namespace {

constexpr double kTolerance = 1e-4;

void expect_logits(const Llama& model, const test::RealRow& row) {
  const std::vector<int64_t> ids = {1, 5, 9, 2, 7, 3, 11, 4};  // "ids" of the lists
  NoGrad no_grad;
  const Tensor logits = model.logits(Tensor::from(ids, {1, 8}));
  const auto& expected = row.fields.at("logits");
  ASSERT_EQ(logits.shape(), (Shape{1, 8, static_cast<int64_t>(expected[0].size())}));
  const float* value = logits.data<float>();
  double largest = 0;
  for (const auto& position : expected)
    for (const double right : position) largest = std::max(largest, std::abs(*value++ - right));
  EXPECT_LT(largest, kTolerance) << row.fields.at("made_by");
}

void expect_notes(const std::vector<std::string>& notes, const test::RealRow& row) {
  std::string all;
  for (const std::string& note : notes) all += note + "\n";
  const auto expected = row.fields.find("note");
  if (expected == row.fields.end()) {
    EXPECT_EQ(all, "");
    return;
  }
  for (const auto& text : *expected)
    EXPECT_NE(all.find(text.get<std::string>()), std::string::npos) << text << " in: " << all;
}

class RealModels : public testing::TestWithParam<test::RealRow> {};

TEST_P(RealModels, HaveTheirLogits) {
  const test::RealRow& row = GetParam();
  std::unique_ptr<Llama> model;
  std::vector<std::string> notes;
  const auto read = [&] {
    const LlamaCheckpoint checkpoint = open_llama_checkpoint(find_model(row.file).base);
    notes = checkpoint.notes;
    model = load_llama(checkpoint);
  };
  if (!test::read_as_expected(row, read)) return;
  expect_logits(*model, row);
  expect_notes(notes, row);
}

class RealAdapters : public testing::TestWithParam<test::RealRow> {};

TEST_P(RealAdapters, HaveTheirLogits) {
  const test::RealRow& row = GetParam();
  const auto base = row.file.parent_path() / row.fields.at("base").get<std::string>();
  const auto model = load_llama(open_llama_checkpoint(base));
  if (test::read_as_expected(row, [&] { load_adapter(*model, row.file); }))
    expect_logits(*model, row);
}

// The pairs and whole parameters in the base's place: the same model, from files of its own.
TEST_P(RealAdapters, HaveTheirLogitsWhenMerged) {
  const test::RealRow& row = GetParam();
  const auto base = row.file.parent_path() / row.fields.at("base").get<std::string>();
  const LlamaCheckpoint checkpoint = open_llama_checkpoint(base);
  const auto model = load_llama(checkpoint);
  AdapterConfig adapter;
  if (!test::read_as_expected(row, [&] { adapter = load_adapter(*model, row.file); })) return;
  LlamaConfig config = checkpoint.config;
  config.tie_word_embeddings = model->head_is_tied();
  const test::TemporaryRun folder;
  write_hf_folder(folder.path(), config, *merged_weights(*model, adapter), DType::f32);
  expect_logits(*load_llama(open_llama_checkpoint(folder.path())), row);
}

}  // namespace

INSTANTIATE_REAL_ROWS(RealModels, "models");
INSTANTIATE_REAL_ROWS(RealAdapters, "adapters");
}  // namespace mullion
