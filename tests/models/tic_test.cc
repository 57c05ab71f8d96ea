// TiC against the unfold reference in PyTorch (outputs and every gradient), and what must hold for
// it by itself.
#include "models/tic/model.h"

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "optim/optimizer.h"
#include "tests/golden.h"

namespace mullion {
namespace {

TicConfig config_of(const nlohmann::json& o) {
  TicConfig c;
  c.preset = "tic-t";
  c.dim = o.at("dim");
  c.depths = o.at("depths").get<std::vector<int64_t>>();
  c.heads = o.at("heads").get<std::vector<int64_t>>();
  c.kernel_h = o.at("kernel").at(0);
  c.kernel_w = o.at("kernel").at(1);
  c.dilation = o.at("dilation");
  c.patch = o.at("patch");
  c.in_chans = o.at("in_chans");
  c.num_classes = o.at("num_classes");
  from_name(o.at("block"), c.block);
  from_name(o.at("variant"), c.variant);
  from_name(o.at("border"), c.border);
  from_name(o.at("shift"), c.shift);
  from_name(o.at("pool"), c.pool);
  c.shift_size = o.at("shift_size").is_null() ? 0 : o.at("shift_size").get<int64_t>();
  c.kv_pool = o.at("kv_pool");
  c.mlp_ratio = o.at("mlp_ratio");
  c.mlp_dwconv = o.at("mlp_dwconv");
  return c;
}

std::string sizes_text(const Tensor& t) {
  std::string text;
  for (const int64_t n : t.shape()) text += (text.empty() ? "" : "x") + std::to_string(n);
  return text;
}

class TicGolden : public testing::TestWithParam<std::string> {};

TEST_P(TicGolden, OutputAndEveryGradient) {
  const test::Golden golden("tic");
  Tic model(config_of(golden.options(GetParam()).at("options")));
  for_each_parameter(model, [&](const std::string& name, Tensor& p) {
    p = golden.tensor("parameters." + name + "." + sizes_text(p));
    set_requires_grad(p, true);
  });
  const Tensor nchw = golden.tensor("images.input");
  const Tensor input = raw::clone(raw::permute(nchw, std::vector<int>{0, 2, 3, 1}));
  set_requires_grad(input, true);
  const Tensor out = model(input);
  EXPECT_LT(test::relative_error(out, golden.tensor(GetParam() + ".out")), 1e-5);
  backward(out, golden.tensor(GetParam() + ".grad_out"));
  int compared = 0;
  for (const NamedParameter& p : named_parameters(model)) {
    const std::string name = GetParam() + ".grad." + p.name;
    ASSERT_TRUE(grad(p.value).defined()) << p.name;
    if (!golden.has(name)) continue;  // the variants keep a selection
    ++compared;
    EXPECT_LT(test::relative_error(grad(p.value), golden.tensor(name)), 1e-5) << p.name;
  }
  EXPECT_GT(compared, 10);
  const Tensor dx = raw::permute(grad(input), std::vector<int>{0, 3, 1, 2});
  EXPECT_LT(test::relative_error(dx, golden.tensor(GetParam() + ".grad.input")), 1e-5);
}

std::vector<std::string> golden_cases() {
  std::vector<std::string> names;
  const test::Golden golden("tic");
  for (const auto& c : golden.cases())
    if (c.contains("options")) names.push_back(c.at("name"));
  return names;
}
INSTANTIATE_TEST_SUITE_P(All, TicGolden, testing::ValuesIn(golden_cases()),
                         [](const auto& each) { return each.param; });

TicConfig small_twin() {
  TicConfig c;
  c.dim = 16;
  c.depths = {2};
  c.heads = {4};
  c.patch = c.positions = 4;
  c.num_classes = 5;
  c.block = TicConfig::Block::global;
  return c;
}

// A twin of one stage is a ViT.
TEST(TicTwin, OutputsAndGradientsAreThoseOfTimm) {
  const test::Golden golden("tic_twin");
  Tic model(small_twin());
  for_each_parameter(model, [&](const std::string& name, Tensor& p) {
    p = golden.tensor("parameters." + name);
    set_requires_grad(p, true);
  });
  for (const std::string name : {"own_size", "other_size"}) {
    SCOPED_TRACE(name);
    const Tensor nchw = golden.tensor(name + ".input");
    const Tensor input = raw::clone(raw::permute(nchw, std::vector<int>{0, 2, 3, 1}));
    set_requires_grad(input, true);
    clear_grads(named_parameters(model));
    const Tensor out = model(input);
    EXPECT_LT(test::relative_error(out, golden.tensor(name + ".out")), 1e-5);
    backward(out, golden.tensor(name + ".grad_out"));
    for (const NamedParameter& p : named_parameters(model)) {
      ASSERT_TRUE(grad(p.value).defined()) << p.name;
      if (!golden.has(name + ".grad." + p.name)) continue;
      EXPECT_LT(test::relative_error(grad(p.value), golden.tensor(name + ".grad." + p.name)), 1e-5)
          << p.name;
    }
    const Tensor dx = raw::permute(grad(input), std::vector<int>{0, 3, 1, 2});
    EXPECT_LT(test::relative_error(dx, golden.tensor(name + ".grad.input")), 1e-5);
  }
}

// Same width, depths and MLP as the TiC; ViT-B/16's published size where it is made like one.
TEST(TicTwin, HasTheSizeItSays) {
  TicConfig c = tic_preset("tic-t");
  const double own = tic_parameters(c);
  c.block = TicConfig::Block::global;
  c.positions = 56;
  EXPECT_EQ(tic_parameters(c) - own, 56 * 56 * 96);
  EXPECT_EQ(static_cast<double>(parameter_count(named_parameters(*std::make_unique<Tic>(c)))),
            tic_parameters(c));
  TicConfig vit = small_twin();
  vit.dim = 768;
  vit.depths = {12};
  vit.heads = {12};
  vit.patch = 16;
  vit.positions = 14;
  vit.num_classes = 1000;
  EXPECT_NEAR(tic_parameters(vit) / 1e6, 86.57, 0.01);
  EXPECT_NEAR(static_cast<double>(tic_macs(vit, 224, 224)) / 1e9, 17.5, 0.1);
  EXPECT_NEAR(static_cast<double>(tic_macs(vit, 1024, 1024)) / 1e9, 659.78, 1);
  EXPECT_EQ(tic_from_model_args(tic_model_args(c), "args").positions, 56);
}

// docs/tic.md, section 4: parameters and multiply-adds of the presets, as the table prints them.
TEST(Tic, PresetsHaveTheTablesSizes) {
  struct Row {
    const char* name;
    double params_m;
    std::vector<double> gmacs;  // at 224, 384, 512, 1024
  };
  for (const Row& row : {Row{"tic-t", 27.10, {4.36, 12.81, 22.78, 91.11}},
                         Row{"tic-s", 48.40, {8.61, 25.30, 44.98, 179.93}},
                         Row{"tic-b", 85.64, {15.20, 44.67, 79.41, 317.62}},
                         Row{"tic-rel-t", 28.42, {3.81, 11.20, 19.92, 79.66}}}) {
    Tic model(tic_preset(row.name));
    const double params = static_cast<double>(parameter_count(named_parameters(model)));
    EXPECT_NEAR(params / 1e6, row.params_m, 0.005) << row.name;
    const int64_t sizes[] = {224, 384, 512, 1024};
    for (size_t i = 0; i < 4; ++i)
      EXPECT_NEAR(static_cast<double>(tic_macs(model.config(), sizes[i], sizes[i])) / 1e9,
                  row.gmacs[i], 0.005)
          << row.name << " at " << sizes[i];
  }
}

TicConfig nano() {
  TicConfig c = tic_preset("tic-n");
  c.dim = 8;
  c.heads = {1, 2, 4};
  return c;
}

TEST(Tic, OneSetOfWeightsServesEverySize) {
  Tic model(nano());
  model.initialize(1);
  NoGrad no_grad;
  for (const auto& [h, w] : {std::pair{32, 32}, {31, 17}, {1, 40}, {5, 5}, {64, 24}}) {
    const Tensor out = model(Tensor::full({2, h, w, 3}, 0.5));
    ASSERT_EQ(out.shape(), (Shape{2, 10}));
    for (const float v : out.to_vector<float>()) EXPECT_TRUE(std::isfinite(v));
  }
}

TEST(Tic, OverfitsOneBatch) {
  Tic model(nano());
  model.initialize(3);
  set_trainable(model, [](const std::string&) { return true; });
  const auto parameters = trainable_parameters(model);
  const auto optimizer = make_adamw({{parameters, 1, 0}});
  std::vector<float> pixels(8 * 16 * 16 * 3);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = std::sin(static_cast<float>(i * i % 1009));
  const Tensor images = Tensor::from(pixels, {8, 16, 16, 3});
  const Tensor labels = Tensor::from(std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7}, {8});
  double first = 0, last = 0;
  for (int step = 0; step < 60; ++step) {
    clear_grads(parameters);
    const Tensor loss = cross_entropy(model(images), labels, 1.0 / 8);
    backward(loss);
    if (step == 0) {
      first = loss.item();
      for (const NamedParameter& p : parameters) {
        const double norm = global_grad_norm({p});
        EXPECT_TRUE(std::isfinite(norm) && norm > 0) << p.name << ": gradient norm " << norm;
      }
    }
    last = loss.item();
    optimizer->step(3e-3);
  }
  EXPECT_LT(last, 0.05 * first);
}

// Where a block looks, by its gradient: with one key of weight 1 the output is that key's value.
TEST(Tic, AttentionFromAPixelAddsUpToWhatLiesInside) {
  for (const auto border : {MsaBorder::zero_logit, MsaBorder::masked})
    for (const auto pool : {TicConfig::Pool::inter, TicConfig::Pool::kv}) {
      TicConfig c = nano();
      c.border = border;
      c.pool = pool;
      Tic model(c);
      model.initialize(1);
      const Tensor image = Tensor::full({1, 32, 32, 3}, 0.25);
      for (int64_t layer = 0; layer < c.blocks(); ++layer) {
        const Tensor seen = model.attention_from(image, layer, 0, 31);
        const int64_t heads = c.heads[static_cast<size_t>(layer / 2)];
        ASSERT_EQ(seen.dim(0), heads);
        const auto values = seen.to_vector<float>();
        const auto pixels = values.size() / static_cast<size_t>(heads);
        for (size_t head = 0; head < static_cast<size_t>(heads); ++head) {
          double sum = 0;
          size_t looked_at = 0;
          for (size_t p = 0; p < pixels; ++p) {
            sum += values[head * pixels + p];
            looked_at += values[head * pixels + p] > 0;
          }
          // At a corner the window of 5 x 5 has 3 x 3 taps inside.
          EXPECT_EQ(looked_at < pixels, layer < 4 || pool == TicConfig::Pool::inter) << layer;
          if (border == MsaBorder::masked)
            EXPECT_NEAR(sum, 1, 1e-5);
          else
            EXPECT_LT(sum, 0.9);
        }
      }
    }
  EXPECT_THROW(Tic(nano()).attention_from(Tensor::full({1, 32, 32, 3}, 0), 6, 0, 0), Error);
}

TEST(Tic, DropPathIsAFunctionOfSeedAndStep) {
  Tic model(nano());
  model.initialize(1);
  NoGrad no_grad;
  const Tensor images = Tensor::full({4, 16, 16, 3}, 0.25);
  const TicTraining a{0.5, 7, drop_path_streams(model.config(), 11)},
      b{0.5, 7, drop_path_streams(model.config(), 12)};
  const auto ya = model(images, &a).to_vector<float>();
  EXPECT_EQ(ya, model(images, &a).to_vector<float>());
  EXPECT_NE(ya, model(images, &b).to_vector<float>());
}

TEST(Tic, RefusesWhatDoesNotFit) {
  TicConfig even = tic_preset("tic-t");
  even.kernel_h = 4;
  EXPECT_THROW(Tic{even}, Error);
  TicConfig heads = tic_preset("tic-t");
  heads.heads = {5, 6, 12, 24};
  EXPECT_THROW(Tic{heads}, Error);
  EXPECT_THROW(tic_preset("tic-x"), Error);
  TicConfig twin = small_twin();
  twin.positions = 0;
  EXPECT_THROW(Tic{twin}, Error);
  twin.positions = 4;
  twin.pool = TicConfig::Pool::kv;
  EXPECT_THROW(Tic{twin}, Error);
}

}  // namespace
}  // namespace mullion
