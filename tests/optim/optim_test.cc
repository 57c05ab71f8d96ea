// Optimizers, clipping and schedules against PyTorch, transformers and timm (tests/golden), and the
// average of weights by its formula.
#include "optim/optimizer.h"

#include <cmath>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "optim/ema.h"
#include "optim/schedule.h"
#include "tests/golden.h"
#include "tests/source_dir.h"

namespace mullion {
namespace {

NamedParameter parameter(const std::string& name, const Tensor& values) {
  set_requires_grad(values, true);
  return {name, values};
}

void set_grad(const NamedParameter& p, const Tensor& g) {
  clear_grad(p.value);
  backward(add(p.value, Tensor::zeros(p.value.shape())), g);
}

std::unique_ptr<Optimizer> optimizer_of(const nlohmann::json& o, const NamedParameter& p) {
  const std::vector<ParameterGroup> groups = {{{p}, 1, o.at("weight_decay")}};
  if (o.at("optimizer") == "sgd") return make_sgd(groups, {o.at("momentum"), o.at("nesterov")});
  return make_adamw(groups, {o.at("betas")[0], o.at("betas")[1], o.at("eps")});
}

TEST(Optimizers, TenStepsAsInPyTorch) {
  const test::Golden golden("optim");
  int cases = 0;
  for (const nlohmann::json& o : golden.cases()) {
    if (!o.contains("optimizer")) continue;
    ++cases;
    const std::string name = o.at("name");
    const NamedParameter p = parameter("p", golden.tensor(name + ".initial"));
    const auto optimizer = optimizer_of(o, p);
    const Tensor grads = golden.tensor(name + ".grads"),
                 after = golden.tensor(name + ".after_step");
    for (int64_t step = 0; step < grads.dim(0); ++step) {
      const auto row = [&](const Tensor& x) {
        return raw::contiguous(raw::reshape(raw::slice(x, 0, step, step + 1), p.value.shape()));
      };
      set_grad(p, row(grads));
      optimizer->step(o.at("lr"));
      EXPECT_LT(test::relative_error(p.value, row(after)), 1e-6) << name << ", step " << step;
    }
    EXPECT_EQ(optimizer->steps(), grads.dim(0));
  }
  EXPECT_EQ(cases, 6);
}

TEST(Optimizers, ClippingByGlobalNormAsInPyTorch) {
  const test::Golden golden("optim");
  for (const char* name : {"clip_acts", "clip_does_nothing"}) {
    const std::string prefix = std::string(name) + ".";
    std::vector<NamedParameter> parameters;
    for (const char* which : {"a", "b"}) {
      const Tensor g = golden.tensor(prefix + which);
      parameters.push_back(parameter(which, Tensor::zeros(g.shape())));
      set_grad(parameters.back(), g);
    }
    const double norm = global_grad_norm(parameters);
    EXPECT_NEAR(norm, golden.tensor(prefix + "norm").item(), 1e-5);
    // From zero, by one step of rate 1, a parameter becomes its clipped gradient, negated.
    const auto sgd = make_sgd({{parameters, 1, 0}}, {0, false});
    sgd->step(1, grad_sum_squares(parameters), golden.options(name).at("max_norm"));
    for (const NamedParameter& p : parameters) {
      const auto moved = p.value.to_vector<double>(),
                 clipped = golden.tensor(prefix + "clipped_" + p.name).to_vector<double>();
      for (size_t i = 0; i < clipped.size(); ++i) EXPECT_NEAR(-moved[i], clipped[i], 1e-6);
    }
  }
}

TEST(Clipping, ANormOfZeroMeansNone) {
  const NamedParameter p = parameter("p", Tensor::zeros({1}));
  set_grad(p, Tensor::full({1}, 1e6));
  const auto sgd = make_sgd({{{p}, 1, 0}}, {0, false});
  sgd->step(1, grad_sum_squares({p}), 0);
  EXPECT_EQ(p.value.item(), -1e6);
}

TEST(Optimizers, GroupsHaveRatesAndDecaysOfTheirOwnAndParametersWithoutGradientRest) {
  const auto ones = [] { return Tensor::from(std::vector<float>{1, 1}, {2}); };
  const NamedParameter fast = parameter("fast", ones()), slow = parameter("slow", ones()),
                       decayed = parameter("decayed", ones()), idle = parameter("idle", ones());
  const auto sgd =
      make_sgd({{{fast}, 1, 0}, {{slow}, 0.1, 0}, {{decayed, idle}, 1, 0.5}}, {0, false});
  for (const NamedParameter& p : {fast, slow, decayed}) set_grad(p, ones());
  // Six ones: clipped to half their norm, each gradient counts a half (but for PyTorch's 1e-6).
  sgd->step(0.1, grad_sum_squares({fast, slow, decayed}), 0.5 * std::sqrt(6.0));
  EXPECT_NEAR(fast.value.to_vector<float>()[0], 1 - 0.1 * 0.5, 1e-6);
  EXPECT_NEAR(slow.value.to_vector<float>()[0], 1 - 0.01 * 0.5, 1e-6);
  EXPECT_NEAR(decayed.value.to_vector<float>()[0], 1 - 0.1 * (0.5 + 0.5), 1e-6);
  EXPECT_EQ(idle.value.to_vector<float>()[0], 1);
}

TEST(Schedules, AsInTransformersAndTimm) {
  const auto golden =
      read_json_file(std::string(test::source_dir) + "/tests/golden/schedules.json");
  for (const auto& [name, o] : golden.items()) {
    if (name == "timm_cosine") continue;
    Schedule s;
    s.kind = schedule_kind(name.starts_with("constant") ? "constant_with_warmup"
                                                        : name.substr(0, name.find('_')));
    s.lr = 2;
    s.warmup_steps = o.at("num_warmup_steps");
    if (o.contains("num_training_steps")) s.total_steps = o.at("num_training_steps");
    for (size_t step = 0; step < o.at("factors").size(); ++step)
      EXPECT_NEAR(s.at(static_cast<int64_t>(step)), 2 * o.at("factors")[step].get<double>(), 1e-12)
          << name << ", step " << step;
  }
  // timm counts the warm-up as a part of the cosine, ours begins behind it: each half by itself.
  const nlohmann::json& timm = golden.at("timm_cosine");
  Schedule cosine{
      Schedule::Kind::cosine, timm.at("lr"), timm.at("warmup_lr_init"), timm.at("lr_min"), 0,
      timm.at("t_initial")};
  Schedule warmup = cosine;
  warmup.warmup_steps = timm.at("warmup_t");
  for (int64_t t = 0; t < 15; ++t)
    EXPECT_NEAR((t < 3 ? warmup : cosine).at(t),
                timm.at("rate_at_t")[static_cast<size_t>(t)].get<double>(), 1e-12);
  EXPECT_THROW(schedule_kind("cosin"), Error);
}

TEST(EmaOfWeights, FollowsItsFormulaAndSwapsBack) {
  for (const bool warmup : {false, true}) {
    const NamedParameter p = parameter("p", Tensor::from(std::vector<float>{1}, {1}));
    Ema ema({p}, 0.9, warmup);
    double average = 1;
    for (int n = 0; n < 20; ++n) {
      *static_cast<float*>(p.value.data<float>()) = static_cast<float>(n);
      ema.update();
      const double decay = warmup ? std::min(0.9, (1.0 + n) / (10.0 + n)) : 0.9;
      average = decay * average + (1 - decay) * n;
      EXPECT_NEAR(ema.averages()[0].value.item(), average, 1e-5);
    }
    ema.swap();
    EXPECT_NEAR(p.value.item(), average, 1e-5);
    ema.swap();
    EXPECT_EQ(p.value.item(), 19);
    EXPECT_EQ(ema.updates(), 20);
  }
}

}  // namespace
}  // namespace mullion
