// A list of addresses a step, in one kernel call; the norm over all gradients is another.
#include "optim/optimizer.h"

#include <cmath>

#include "tensor/kernel_table.h"
#include "tensor/op_scope.h"

namespace mullion {
namespace {

// A parameter's moments, made at the first use of the optimizer.
struct Moments {
  Tensor first, second;
};

class MomentOptimizer : public Optimizer {
 public:
  MomentOptimizer(std::vector<ParameterGroup> groups, std::vector<std::string> names)
      : Optimizer(std::move(groups)), names_(std::move(names)) {
    for (const ParameterGroup& group : groups_)
      for (const NamedParameter& p : group.parameters) {
        CHECK(p.value.dtype() == DType::f32, "optimizer: parameter ", p.name, " is of type ",
              name_of(p.value.dtype()), ", only f32 can be trained");
        CHECK(p.value.is_contiguous(), "optimizer: parameter ", p.name, " is a strided view");
        check_same_device("optimizer", first_parameter(), p.value);
        const auto zeros = [&] { return Tensor::zeros(p.value.shape(), DType::f32, device()); };
        moments_.push_back({zeros(), names_.size() > 1 ? zeros() : Tensor()});
      }
  }

  std::vector<NamedParameter> state() const override {
    std::vector<NamedParameter> result;
    size_t i = 0;
    for (const ParameterGroup& group : groups_)
      for (const NamedParameter& p : group.parameters) {
        const Moments& m = moments_[i++];
        result.push_back({names_[0] + "." + p.name, m.first});
        if (names_.size() > 1) result.push_back({names_[1] + "." + p.name, m.second});
      }
    return result;
  }

 protected:
  std::vector<OptimizerItem> items(double lr) const {
    std::vector<OptimizerItem> result;
    size_t i = 0;
    for (const ParameterGroup& group : groups_)
      for (const NamedParameter& p : group.parameters) {
        const Moments& m = moments_[i++];
        const Tensor g = grad(p.value);
        if (!g.defined()) continue;
        const Tensor dense = raw::contiguous(g);
        kept_.push_back(dense);
        result.push_back({p.value.data<float>(), dense.data<float>(), m.first.data<float>(),
                          m.second.defined() ? m.second.data<float>() : nullptr, p.value.numel(),
                          lr * group.lr_scale, group.weight_decay});
      }
    return result;
  }
  void release() { kept_.clear(); }
  Device device() const { return first_parameter().device(); }
  Clipping clipping(const Tensor& sum_squares, double max_norm) const {
    if (!sum_squares.defined()) return {};
    check_same_device("optimizer", first_parameter(), sum_squares);
    return {sum_squares.data<double>(), max_norm};
  }

 private:
  const Tensor& first_parameter() const {
    for (const ParameterGroup& group : groups_)
      if (!group.parameters.empty()) return group.parameters[0].value;
    fail(Fault::other, "optimizer: no parameters");
  }

  std::vector<std::string> names_;
  std::vector<Moments> moments_;
  mutable std::vector<Tensor> kept_;  // gradients in use by the items of this step
};

class AdamW : public MomentOptimizer {
 public:
  AdamW(std::vector<ParameterGroup> groups, AdamWOptions options)
      : MomentOptimizer(std::move(groups), {"exp_avg", "exp_avg_sq"}), options_(options) {}
  void step(double lr, const Tensor& sum_squares, double max_norm) override {
    const OpScope scope("adamw");
    const auto list = items(lr);
    ++steps_;
    kernels(device()).adamw({.items = list.data(),
                             .count = static_cast<int64_t>(list.size()),
                             .step = steps_,
                             .beta1 = options_.beta1,
                             .beta2 = options_.beta2,
                             .eps = options_.eps,
                             .clipping = clipping(sum_squares, max_norm)});
    release();
  }

 private:
  AdamWOptions options_;
};

class Sgd : public MomentOptimizer {
 public:
  Sgd(std::vector<ParameterGroup> groups, SgdOptions options)
      : MomentOptimizer(std::move(groups), {"momentum_buffer"}), options_(options) {}
  void step(double lr, const Tensor& sum_squares, double max_norm) override {
    const OpScope scope("sgd");
    const auto list = items(lr);
    ++steps_;
    kernels(device()).sgd({.items = list.data(),
                           .count = static_cast<int64_t>(list.size()),
                           .step = steps_,
                           .momentum = options_.momentum,
                           .nesterov = options_.nesterov,
                           .clipping = clipping(sum_squares, max_norm)});
    release();
  }

 private:
  SgdOptions options_;
};

}  // namespace

std::unique_ptr<Optimizer> make_adamw(std::vector<ParameterGroup> groups, AdamWOptions options) {
  return std::make_unique<AdamW>(std::move(groups), options);
}

std::unique_ptr<Optimizer> make_sgd(std::vector<ParameterGroup> groups, SgdOptions options) {
  return std::make_unique<Sgd>(std::move(groups), options);
}

Tensor grad_sum_squares(const std::vector<NamedParameter>& parameters,
                        const std::vector<Tensor>& watched) {
  std::vector<OptimizerItem> items;
  std::vector<Tensor> kept;
  const auto add = [&](const Tensor& x) {
    kept.push_back(raw::contiguous(x));
    items.push_back({nullptr, kept.back().data<float>(), nullptr, nullptr, x.numel(), 0, 0});
  };
  for (const NamedParameter& p : parameters)
    if (const Tensor g = grad(p.value); g.defined()) add(g);
  const auto count = static_cast<int64_t>(items.size());
  for (const Tensor& x : watched) add(x);
  const Device device = kept.empty() ? Device{} : kept[0].device();
  for (const Tensor& x : kept) check_same_device("gradient norm", kept[0], x);
  const Tensor result = Tensor::empty({}, DType::f64, device);
  kernels(device).sum_squares({.items = items.data(),
                               .count = count,
                               .result = result.data<double>(),
                               .watched = static_cast<int64_t>(watched.size())});
  return result;
}

double global_grad_norm(const std::vector<NamedParameter>& parameters) {
  return std::sqrt(grad_sum_squares(parameters).item());
}

}  // namespace mullion
