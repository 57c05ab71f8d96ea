// Weights spread over ranks: the losses and weights of one process, for what is trained whole and
// for pairs beside frozen weights, with gathers ahead, over several passes a step; and what is
// refused.
#include "optim/parallel/full_shard.h"

#include <gtest/gtest.h>

#include <cmath>

#include "autograd/ops.h"
#include "models/llama/spread_load.h"
#include "optim/update_step.h"
#include "tensor/absent.h"
#include "tensor/local_collective.h"
#include "tests/small_llama_config.h"

namespace mullion {
namespace {

constexpr int64_t kSteps = 3, kTokens = 12;

struct Training {
  std::unique_ptr<Llama> model;
  std::vector<ParameterGroup> groups;

  static LlamaConfig config(bool tied) {
    LlamaConfig c = test::small_llama_config(4, 30);
    c.num_hidden_layers = 4, c.max_position_embeddings = kTokens, c.tie_word_embeddings = tied;
    return c;
  }
  explicit Training(bool lora, Recompute recompute = Recompute::block) {
    model = std::make_unique<Llama>(config(!lora));
    model->initialize(1);
    model->set_recompute(recompute);
    if (lora) {
      LoraOptions options;
      options.train_norms = true;
      add_lora(*model, options, 1);
    } else {
      set_trainable(*model, [](const std::string&) { return true; });
    }
    ParameterGroup norms, others{{}, 0.5, 0.1};
    for (const NamedParameter& p : trainable_parameters(*model))
      (p.name.find("norm") != std::string::npos ? norms : others).parameters.push_back(p);
    groups = {norms, others};
  }

  UpdateStep::Loss loss() const {
    return [this](const UpdateStep::Inputs& in) { return model->loss(in[0], in[1], 0.02); };
  }
  static UpdateStep::Inputs batch(int64_t pass) {
    std::vector<int64_t> ids, targets;
    for (int64_t i = 0; i < kTokens; ++i) {
      ids.push_back((pass * 5 + i * 7) % 30);
      targets.push_back((pass * 5 + i * 7 + 7) % 30);
    }
    return {Tensor::from(ids, {1, kTokens}), Tensor::from(targets, {1, kTokens})};
  }
};

struct Result {
  std::vector<double> losses, norms;
  std::vector<NamedParameter> values;
};

void make_steps(UpdateStep& update, int64_t rank, int64_t ranks, int64_t passes, Result& result) {
  for (int64_t step = 0; step < kSteps; ++step) {
    int64_t pass = step * passes + rank;
    update.accumulate(passes / ranks,
                      [&] { return Training::batch(std::exchange(pass, pass + ranks)); });
    const UpdateReport report = update.apply(0.02);
    result.losses.push_back(report.loss);
    result.norms.push_back(report.grad_norm);
  }
}

std::vector<NamedParameter> copies(const std::vector<NamedParameter>& parameters) {
  std::vector<NamedParameter> result;
  for (const NamedParameter& p : parameters) result.push_back({p.name, raw::clone(p.value)});
  return result;
}

void expect_near(const Result& a, const Result& b) {
  for (size_t i = 0; i < a.losses.size(); ++i) {
    EXPECT_NEAR(a.losses[i], b.losses[i], 1e-6 * std::abs(a.losses[i])) << "step " << i;
    EXPECT_NEAR(a.norms[i], b.norms[i], 1e-5 * a.norms[i]) << "step " << i;
  }
  ASSERT_EQ(a.values.size(), b.values.size());
  for (size_t i = 0; i < a.values.size(); ++i) {
    ASSERT_EQ(a.values[i].name, b.values[i].name);
    const auto x = a.values[i].value.to_vector<float>(), y = b.values[i].value.to_vector<float>();
    ASSERT_EQ(x.size(), y.size());
    for (size_t k = 0; k < x.size(); ++k) ASSERT_NEAR(x[k], y[k], 2e-4) << a.values[i].name;
  }
}

std::vector<Module*> blocks(Llama& model) {
  std::vector<Module*> units;
  for (const auto& layer : model.layers()) units.push_back(layer.get());
  return units;
}

TEST(FullShard, HasTheLossesAndWeightsOfOneProcess) {
  for (const bool lora : {false, true})
    for (const int64_t count : {1, 2, 3, 4}) {
      const int64_t passes = 2 * count;
      Training alone(lora);
      UpdateStep whole(trainable_parameters(*alone.model), make_adamw(alone.groups), alone.loss(),
                       {.max_norm = 0.05});
      Result expected;
      make_steps(whole, 0, 1, passes, expected);
      expected.values = trainable_parameters(*alone.model);
      for (const Recompute recompute : {Recompute::block, Recompute::none})
        run_ranks(count, [&](Communicator& ranks) {
          Training training(lora, recompute);
          const auto full = std::make_shared<FullShard>(ranks, *training.model,
                                                        blocks(*training.model), Device{}, passes);
          UpdateStep update(full->pieces(), make_adamw(full->own(training.groups)), training.loss(),
                            {.max_norm = 0.05, .ranks = full});
          Result result;
          make_steps(update, ranks.rank(), count, passes, result);
          EXPECT_THROW(static_cast<void>(trainable_parameters(*training.model)[0].value.item()),
                       Error);
          EXPECT_EQ(update.count_nonfinite(), 0);
          full->collect();
          if (ranks.rank() == 0) {
            result.values = copies(trainable_parameters(*training.model));
            expect_near(expected, result);
          }
          full->let_go();
          // An evaluation between steps, then more of them.
          {
            NoGrad no_grad;
            const auto batch = Training::batch(99);
            const double value = training.model->loss(batch[0], batch[1], 0.02).item();
            EXPECT_NEAR(value, alone.model->loss(batch[0], batch[1], 0.02).item(), 1e-5);
          }
          make_steps(update, ranks.rank(), count, passes, result);
          EXPECT_LT(result.losses.back(), result.losses.front());
        });
    }
}

// Sums that travel while the next block computes: the same bits, and what the plan says of bytes.
TEST(FullShard, OverlapChangesNoBitAndRanksSendWhatIsSaid) {
  for (const int64_t count : {2, 3}) {
    std::vector<Result> results;
    for (const bool overlap : {true, false})
      run_ranks(count, [&](Communicator& ranks) {
        Training training(true);
        const auto full =
            std::make_shared<FullShard>(ranks, *training.model, blocks(*training.model), Device{},
                                        2 * count, FullShardOptions{.overlap = overlap});
        UpdateStep update(full->pieces(), make_adamw(full->own(training.groups)), training.loss(),
                          {.max_norm = 0.05, .ranks = full});
        const SentBytes before = ranks.sent();
        Result result;
        make_steps(update, ranks.rank(), count, 2 * count, result);
        const SentBytes after = ranks.sent();
        EXPECT_EQ(after.gathered - before.gathered + after.exchanged - before.exchanged,
                  kSteps * full->plan().sent_bytes());
        full->collect();
        if (ranks.rank() > 0) return;
        result.values = copies(trainable_parameters(*training.model));
        results.push_back(std::move(result));
      });
    EXPECT_EQ(results[0].losses, results[1].losses);
    for (size_t i = 0; i < results[0].values.size(); ++i)
      ASSERT_EQ(results[0].values[i].value.to_vector<float>(),
                results[1].values[i].value.to_vector<float>());
  }
}

// A pass that fails within its backward, where gradients of later blocks are on their way, leaves
// no trace in the next one.
TEST(FullShard, GoesOnAfterABackwardPassThatFailed) {
  run_ranks(2, [](Communicator& ranks) {
    Training training(false);
    FullShard full(ranks, *training.model, blocks(*training.model), Device{}, 2);
    const auto batch = Training::batch(ranks.rank());
    const auto loss = [&] { return training.model->loss(batch[0], batch[1], 0.02); };
    const auto gradients = [&] {
      full.backward(loss());
      std::vector<Tensor> losses = {Tensor::full({}, 1)};
      full.finish(losses);
      std::vector<std::vector<float>> values;
      for (const NamedParameter& piece : full.pieces()) {
        values.push_back(grad(piece.value).to_vector<float>());
        clear_grad(piece.value);
      }
      return values;
    };
    const auto expected = gradients();
    const Tensor failing = loss();
    LlamaMlp& mlp = training.model->layers()[1]->mlp;
    std::swap(mlp.gate_proj.weight,
              mlp.down_proj.weight);  // which does not fit when it comes again
    EXPECT_THROW(full.backward(failing), Error);
    std::swap(mlp.gate_proj.weight, mlp.down_proj.weight);
    EXPECT_EQ(gradients(), expected);
  });
}

TEST(FullShard, ANaNOfOneRankSkipsTheStepOnAll) {
  run_ranks(2, [](Communicator& ranks) {
    Training training(false);
    const auto before = copies(trainable_parameters(*training.model));
    const auto full =
        std::make_shared<FullShard>(ranks, *training.model, blocks(*training.model), Device{}, 2);
    const double factor = ranks.rank() == 1 ? std::nan("") : 1;
    UpdateStep update(full->pieces(), make_adamw(full->own(training.groups)),
                      [&](const UpdateStep::Inputs& in) {
                        return mul(training.model->loss(in[0], in[1], 0.02),
                                   Tensor::full({}, factor));
                      },
                      {.max_norm = 0.05, .ranks = full});
    update.accumulate(1, [&] { return Training::batch(ranks.rank()); });
    ASSERT_FALSE(update.apply(0.1).applied);
    full->collect();
    if (ranks.rank() > 0) return;
    for (size_t i = 0; i < before.size(); ++i)
      ASSERT_EQ(trainable_parameters(*training.model)[i].value.to_vector<float>(),
                before[i].value.to_vector<float>());
  });
}

// Weights from elsewhere take the place of the own ones.
TEST(FullShard, IsRefilled) {
  run_ranks(3, [](Communicator& ranks) {
    Training training(true);
    FullShard full(ranks, *training.model, blocks(*training.model), Device{}, 3);
    full.refill([&] {
      for (const NamedParameter& p : trainable_parameters(*training.model))
        raw::fill(p.value, static_cast<double>(p.value.numel()));
    });
    full.collect();
    if (ranks.rank() > 0) return;
    for (const NamedParameter& p : trainable_parameters(*training.model))
      for (const float x : p.value.to_vector<float>())
        ASSERT_EQ(x, static_cast<float>(p.value.numel())) << p.name;
  });
}

// No rank makes more of a model from a seed than what it has a part of, and the values are the
// same.
TEST(FullShard, AModelFromASeedIsMadeInParts) {
  for (const bool tied : {false, true}) {
    LlamaConfig config = Training::config(tied);
    Llama whole(config);
    whole.initialize(7);
    run_ranks(3, [&](Communicator& ranks) {
      const auto model = make_llama_but_blocks(config, 7);
      for (const NamedParameter& p : named_parameters(*model))
        EXPECT_EQ(is_absent(p.value), p.value.rank() == 2 && p.name.starts_with("model.layers."))
            << p.name;
      set_trainable(*model, [](const std::string&) { return true; });
      int64_t made = 0;
      FullShard full(ranks, *model, blocks(*model), Device{}, 3,
                     {.fill = [&](const std::string& name, const Tensor& value) {
                       ++made;
                       initialize_parameter(config, 7, name, value);
                     }});
      EXPECT_LE(made, 4 * config.num_hidden_layers);  // of the seven of a block
      full.collect();
      if (ranks.rank() > 0) return;
      const auto expected = named_parameters(whole), values = named_parameters(*model);
      ASSERT_EQ(expected.size(), values.size());
      for (size_t i = 0; i < values.size(); ++i)
        EXPECT_EQ(values[i].value.to_vector<float>(), expected[i].value.to_vector<float>())
            << values[i].name;
    });
  }
}

TEST(FullShard, SaysWhatIsRefused) {
  const auto message = [](int64_t passes, bool held) {
    std::string text;
    run_ranks(2, [&](Communicator& ranks) {
      Training training(false);
      const Tensor other =
          held ? raw::reshape(trainable_parameters(*training.model)[0].value, {-1}) : Tensor();
      try {
        const FullShard full(ranks, *training.model, blocks(*training.model), Device{}, passes);
      } catch (const Error& error) {
        if (ranks.rank() == 0) text = error.what();
      }
    });
    return text;
  };
  EXPECT_NE(message(3, false).find("3 passes a step (--grad-accum-steps) are no multiple of 2"),
            std::string::npos);
  EXPECT_NE(message(2, true).find("model.embed_tokens.weight have other tensors as well"),
            std::string::npos);
  EXPECT_EQ(message(2, false), "");
}

}  // namespace
}  // namespace mullion
