// One object makes what two trainers did by hand: the same bits, over micro-batches, a save and a
// load, steps that are not finite, ranks, and scales that differ from step to step.
#include "optim/update_step.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "nn/init.h"
#include "nn/linear.h"

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

// Two ranks with a micro-batch each make the step that one makes of two. The other rank is computed
// where its sums are asked for.
TEST(UpdateStep, SumsOverRanksComeBeforeTheNormAndTheUpdate) {
  Task alone, rank, other;
  UpdateStep expected = alone.update();
  const auto add_the_other = [&](const std::vector<Tensor>& sums) {
    const Tensor loss = other.loss(Task::batch(1));
    backward(loss);
    std::vector<Tensor> theirs = {detached(loss)};
    for (const NamedParameter& p : other.parameters) theirs.push_back(grad(p.value));
    ASSERT_EQ(sums.size(), theirs.size());
    for (size_t i = 0; i < sums.size(); ++i) {
      NoGrad no_grad;
      raw::copy_into(add(sums[i], theirs[i]), sums[i]);
    }
  };
  UpdateStep update =
      rank.update({.max_norm = kNorm, .average = rank.average(), .sum_over_ranks = add_the_other});
  update.accumulate(1, [] { return Task::batch(0); });
  const UpdateReport report = update.apply(kRate), whole = step(expected, 0);
  EXPECT_FLOAT_EQ(static_cast<float>(report.loss), static_cast<float>(whole.loss));
  EXPECT_EQ(report.grad_norm, whole.grad_norm);
  expect_same(alone.parameters, rank.parameters);
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
