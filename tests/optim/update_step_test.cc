// One object makes what two trainers did by hand: the same bits, over micro-batches, a save and a
// load, steps that are not finite, ranks, and scales that differ from step to step.
#include "optim/update_step.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <utility>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "nn/init.h"
#include "nn/linear.h"
#include "optim/parallel/rank_sum.h"
#include "tensor/local_collective.h"

namespace mullion {
namespace {

constexpr double kRate = 0.05, kNorm = 0.02, kScale = 1.0 / 8;

// A classifier of three classes, with batches of four that a number decides.
struct Task {
  Linear layer{5, 3, true};
  std::vector<NamedParameter> parameters;

  Task() {
    for_each_parameter(layer, [](const std::string& name, Tensor& p) {
      init::normal(p, 1, 3, init::stream_of(name));
      set_requires_grad(p, true);
    });
    parameters = trainable_parameters(layer);
  }
  static UpdateStep::Inputs batch(int64_t number) {
    Tensor x = Tensor::empty({4, 5});
    init::normal(x, 1, 5, static_cast<uint64_t>(number));
    const std::vector<int64_t> y = {0, 1, 2, number % 3};
    return {x, Tensor::from(y, {4})};
  }
  Tensor loss(const UpdateStep::Inputs& in, double scale = kScale) const {
    return cross_entropy(layer(in[0]), in[1], scale);
  }
  std::unique_ptr<Optimizer> optimizer() const { return make_adamw({{parameters, 1, 0.1}}); }
  std::unique_ptr<Ema> average() const { return std::make_unique<Ema>(parameters, 0.9, true); }
  UpdateStep update(UpdateOptions options) {
    return UpdateStep(
        parameters, optimizer(), [this](const UpdateStep::Inputs& in) { return loss(in); },
        std::move(options));
  }
  UpdateStep update() { return update({.max_norm = kNorm, .average = average()}); }
  UpdateStep rank_update(Communicator& ranks, int64_t passes, RankSumOptions options = {}) {
    return update({.max_norm = kNorm,
                   .average = average(),
                   .ranks = std::make_shared<RankSum>(ranks, parameters, passes, options)});
  }
};

UpdateReport step(UpdateStep& update, int64_t number) {
  int64_t next = 2 * number;
  update.accumulate(2, [&] { return Task::batch(next++); });
  return update.apply(kRate);
}

void expect_same(const std::vector<NamedParameter>& a, const std::vector<NamedParameter>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i)
    EXPECT_EQ(a[i].value.to_vector<float>(), b[i].value.to_vector<float>()) << a[i].name;
}

TEST(UpdateStep, TheBitsOfItsPartsByHand) {
  Task whole, parts;
  UpdateStep update = whole.update();
  const auto optimizer = parts.optimizer();
  const auto average = parts.average();
  double sum = 0;
  for (int64_t n = 0; n < 4; ++n) {
    const UpdateReport report = step(update, n);
    std::vector<Tensor> losses;
    for (int64_t micro = 0; micro < 2; ++micro) {
      losses.push_back(parts.loss(Task::batch(2 * n + micro)));
      backward(losses.back());
    }
    const Tensor squares = grad_sum_squares(parts.parameters, losses);
    optimizer->step(kRate, squares, kNorm);
    clear_grads(parts.parameters);
    average->update(squares);
    EXPECT_TRUE(report.applied);
    EXPECT_EQ(report.loss, losses[0].item() + losses[1].item());
    EXPECT_EQ(report.grad_norm, std::sqrt(squares.item()));
    EXPECT_GT(report.grad_norm, kNorm);
    sum += report.loss;
  }
  expect_same(whole.parameters, parts.parameters);
  expect_same(update.average()->averages(), average->averages());
  EXPECT_EQ(update.take_mean_loss(), sum / 4);
  EXPECT_EQ(update.take_mean_loss(), std::nullopt);
}

TEST(UpdateStep, GoesOnFromItsFilesToTheSameBits) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "update_step";
  std::filesystem::create_directories(folder);
  Task one, other;
  UpdateStep update = one.update();
  step(update, 0);
  step(update, 1);
  for (const std::string& name : update.save(folder))
    EXPECT_TRUE(std::filesystem::exists(folder / name)) << name;
  UpdateStep resumed = other.update();
  for (size_t i = 0; i < one.parameters.size(); ++i)
    raw::copy_into(one.parameters[i].value, other.parameters[i].value);
  resumed.load(folder);
  EXPECT_EQ(step(resumed, 2).loss, step(update, 2).loss);
  expect_same(one.parameters, other.parameters);
  expect_same(update.average()->averages(), resumed.average()->averages());
  EXPECT_EQ(update.take_mean_loss(), resumed.take_mean_loss());
  std::filesystem::remove_all(folder);
}

TEST(UpdateStep, AStepThatIsNotFiniteChangesNothing) {
  Task task, without;
  UpdateStep update = task.update(), plain = without.update();
  for (int64_t n = 0; n < 3; ++n) {
    if (n == 1) {
      UpdateStep::Inputs bad = Task::batch(9);
      bad[0] = Tensor::full({4, 5}, std::numeric_limits<double>::infinity());
      update.accumulate(1, [&] { return bad; });
      EXPECT_FALSE(update.apply(kRate).applied);
      EXPECT_EQ(update.count_nonfinite(), 0);
    }
    step(update, n);
    step(plain, n);
  }
  expect_same(task.parameters, without.parameters);
  expect_same(update.average()->averages(), plain.average()->averages());
  EXPECT_EQ(update.take_mean_loss(), plain.take_mean_loss());
}

// Ranks share the passes of a step: the same losses to the bit, gradients and parameters but for
// the order of their sums, which is the same in each run and on all ranks.
TEST(UpdateStep, RanksShareThePassesOfAStep) {
  constexpr int64_t kPasses = 5;
  const auto batch_of = [](int64_t step, int64_t pass) {
    return Task::batch(kPasses * step + pass);
  };
  Task alone;
  UpdateStep expected = alone.update();
  std::vector<UpdateReport> reports;
  for (int64_t n = 0; n < 3; ++n) {
    int64_t pass = 0;
    expected.accumulate(kPasses, [&] { return batch_of(n, pass++); });
    reports.push_back(expected.apply(kRate));
  }
  for (const int64_t count : {1, 2, 3, 5}) {
    std::vector<std::vector<float>> runs;
    for (int run = 0; run < 2; ++run)
      run_ranks(count, [&](Communicator& ranks) {
        Task task;
        // Buckets of 64 bytes: several of them.
        UpdateStep update = task.rank_update(ranks, kPasses, {.bucket_bytes = 64});
        for (int64_t n = 0; n < 3; ++n) {
          int64_t pass = ranks.rank();
          update.accumulate(passes_of_rank(kPasses, ranks.rank(), count),
                            [&] { return batch_of(n, std::exchange(pass, pass + count)); });
          const UpdateReport report = update.apply(kRate);
          const UpdateReport& whole = reports[static_cast<size_t>(n)];
          ASSERT_NEAR(report.loss, whole.loss, 1e-6 * std::abs(whole.loss));
          ASSERT_NEAR(report.grad_norm, whole.grad_norm, 1e-5 * whole.grad_norm);
          if (n == 0) {
            ASSERT_EQ(report.loss, whole.loss);
          }
        }
        std::vector<float> values;
        for (const NamedParameter& p : task.parameters)
          for (const float x : p.value.to_vector<float>()) values.push_back(x);
        const std::string bytes(reinterpret_cast<const char*>(values.data()), 4 * values.size());
        for (const std::string& other : gather_texts(ranks, bytes)) ASSERT_EQ(other, bytes);
        if (ranks.rank() == 0) runs.push_back(values);
      });
    EXPECT_EQ(runs[0], runs[1]) << count;
  }
}

TEST(UpdateStep, ANaNOfOneRankSkipsTheStepOnAll) {
  run_ranks(2, [](Communicator& ranks) {
    Task task;
    const auto before = task.parameters[0].value.to_vector<float>();
    UpdateStep update = task.rank_update(ranks, 2);
    UpdateStep::Inputs batch = Task::batch(ranks.rank());
    if (ranks.rank() == 1) batch[0] = Tensor::full({4, 5}, std::numeric_limits<double>::infinity());
    update.accumulate(1, [&] { return batch; });
    ASSERT_FALSE(update.apply(kRate).applied);
    ASSERT_EQ(task.parameters[0].value.to_vector<float>(), before);
  });
}

// The moments of a parameter on one rank: the same values, and parts that any number of ranks
// reads.
TEST(UpdateStep, AShardedOptimizerHasTheSameBits) {
  const auto folder = std::filesystem::temp_directory_path() / concat("shards-", ::getpid());
  const auto two_steps = [](UpdateStep& update, Communicator& ranks, int64_t first) {
    for (int64_t n = first; n < first + 2; ++n) {
      int64_t pass = ranks.rank();
      update.accumulate(passes_of_rank(2, ranks.rank(), ranks.size()), [&] {
        return Task::batch(2 * n + std::exchange(pass, pass + ranks.size()));
      });
      update.apply(kRate);
    }
  };
  const auto sharded = [](Task& task, Communicator& ranks) {
    const auto shard = std::make_shared<OptimizerShard>(ranks, task.parameters);
    return UpdateStep(task.parameters, make_adamw(shard->own({{task.parameters, 1, 0.1}})),
                      [&task](const UpdateStep::Inputs& in) { return task.loss(in); },
                      {.max_norm = kNorm,
                       .average = std::make_unique<Ema>(shard->own(task.parameters), 0.9, true),
                       .ranks = std::make_shared<RankSum>(ranks, task.parameters, 2),
                       .shard = shard});
  };
  run_ranks(2, [&](Communicator& ranks) {
    Task task, plain;
    UpdateStep update = sharded(task, ranks), without = plain.rank_update(ranks, 2);
    two_steps(update, ranks, 0);
    two_steps(without, ranks, 0);
    expect_same(task.parameters, plain.parameters);
    // A matrix of 15 on one rank, a bias of 3 on the other, two moments of each.
    ASSERT_EQ(OptimizerShard(ranks, task.parameters).elements(), ranks.rank() == 0 ? 15 : 3);
    if (ranks.rank() == 0) std::filesystem::create_directories(folder);
    ranks.barrier();
    const auto names = update.save_part(folder);
    ASSERT_EQ(names.size(), ranks.rank() == 0 ? 2U : 1U);
    if (ranks.rank() == 0) update.save(folder);
    expect_same(task.parameters, plain.parameters);  // the averages have been there meanwhile
    ranks.barrier();
    two_steps(update, ranks, 2);
    two_steps(without, ranks, 2);
    expect_same(task.parameters, plain.parameters);
  });
  // Parts of two ranks, read by one process and by two again.
  run_ranks(1, [&](Communicator& ranks) {
    Task one;
    UpdateStep update = one.rank_update(ranks, 2);
    update.load(folder);
    ASSERT_EQ(update.average()->updates(), 2);
  });
  run_ranks(2, [&](Communicator& ranks) {
    Task again;
    UpdateStep update = sharded(again, ranks);
    update.load(folder);
    ASSERT_EQ(update.average()->updates(), 2);
  });
  std::filesystem::remove_all(folder);
}

TEST(UpdateStep, MoreRanksThanPassesAreRefused) {
  EXPECT_EQ(passes_of_rank(7, 0, 3), 3);
  EXPECT_EQ(passes_of_rank(7, 1, 3), 2);
  EXPECT_THROW(passes_of_rank(3, 0, 4), Error);
}

TEST(UpdateStep, AScaleThatDiffersFromStepToStepIsAnInput) {
  Task scaled, fixed;
  UpdateStep update(scaled.parameters, scaled.optimizer(),
                    [&](const UpdateStep::Inputs& in) { return mul(scaled.loss(in, 1), in[2]); });
  for (const double scale : {0.5, 0.125}) {  // powers of two: the same bits
    UpdateStep expected(fixed.parameters, fixed.optimizer(),
                        [&](const UpdateStep::Inputs& in) { return fixed.loss(in, scale); });
    UpdateStep::Inputs batch = Task::batch(1);
    expected.accumulate(1, [&] { return batch; });
    batch.push_back(Tensor::full({}, scale));
    update.accumulate(1, [&] { return batch; });
    EXPECT_EQ(update.apply(0).loss, expected.apply(0).loss);
  }
}

TEST(UpdateStep, SaysWhatIsMissing) {
  Task task;
  UpdateStep update = task.update();
  EXPECT_THROW(update.apply(kRate), Error);
  update.accumulate(1, [] { return Task::batch(0); });
  EXPECT_THROW(update.accumulate(1, [] { return Task::batch(0); }), Error);
  EXPECT_THROW(UpdateStep({}, nullptr, nullptr), Error);
}

}  // namespace
}  // namespace mullion
