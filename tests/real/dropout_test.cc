// lora_dropout in training: the loss and the gradients of A and B are PEFT's, whose dropout was
// given this project's masks (tools/real/make_dropout.py). PEFT's side is in f64 but for its norms.
#include <nlohmann/json.hpp>

#include "autograd/engine.h"
#include "models/llama/load.h"
#include "tests/real/rows.h"

namespace mullion {
namespace {

class RealDropout : public testing::TestWithParam<test::RealRow> {};

TEST_P(RealDropout, HasTheGradientsOfPeft) {
  const test::RealRow& row = GetParam();
  const auto model =
      load_llama(open_llama_checkpoint(row.file.parent_path().parent_path() / "adapters/base"));
  const AdapterConfig config = read_adapter_config(row.file);
  EXPECT_EQ(config.lora_dropout, row.fields.at("p"));
  LoraOptions options;
  options.rank = config.r, options.alpha = config.lora_alpha, options.dropout = config.lora_dropout;
  options.targets = config.target_modules;
  options.train_embedding = options.train_norms = false;
  add_lora(*model, options, row.fields.at("seed"));
  load_adapter_values(*model, row.file, false);

  const auto tokens = row.fields.at("tokens").get<std::vector<std::vector<int64_t>>>();
  std::vector<int64_t> ids, targets;
  for (const auto& line : tokens)
    for (size_t t = 0; t < line.size(); ++t) {
      ids.push_back(line[t]);
      targets.push_back(t + 1 < line.size() ? line[t + 1] : -100);
    }
  const auto rows = static_cast<int64_t>(tokens.size());
  const int64_t length = static_cast<int64_t>(ids.size()) / rows;
  const Tensor stream = Tensor::from(std::vector<int64_t>{row.fields.at("pass")}, {1});
  const Tensor loss =
      model->loss(Tensor::from(ids, {rows, length}), Tensor::from(targets, {rows, length}),
                  1.0 / static_cast<double>(rows * (length - 1)), stream);
  backward(loss);
  // Sums of at most 256 terms in f32, in two blocks: as in models_test.cc.
  EXPECT_NEAR(loss.item(), row.fields.at("loss").get<double>(), 2e-6);
  size_t compared = 0;
  for (const NamedParameter& p : trainable_parameters(*model)) {
    const auto expected = row.fields.at("gradients").at(p.name).get<std::vector<double>>();
    const auto found = grad(p.value).to_vector<float>();
    ASSERT_EQ(found.size(), expected.size()) << p.name;
    double most = 1e-3;
    for (const double x : expected) most = std::max(most, std::abs(x));
    for (size_t i = 0; i < found.size(); ++i)
      EXPECT_NEAR(found[i], expected[i], 2e-5 * most) << p.name << " at " << i;
    ++compared;
  }
  EXPECT_EQ(compared, row.fields.at("gradients").size());
}

INSTANTIATE_REAL_ROWS(RealDropout, "dropout");

}  // namespace
}  // namespace mullion
