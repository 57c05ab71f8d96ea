#include "optim/optimizer.h"

#include <cmath>

#include "tensor/backend.h"
#include "tensor/kernel_args/optimizer.h"

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
        const auto zeros = [&] { return Tensor::zeros(p.value.shape()); };
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

 private:
  std::vector<std::string> names_;
  std::vector<Moments> moments_;
  mutable std::vector<Tensor> kept_;  // gradients in use by the items of this step
};

class AdamW : public MomentOptimizer {
 public:
  AdamW(std::vector<ParameterGroup> groups, AdamWOptions options)
      : MomentOptimizer(std::move(groups), {"exp_avg", "exp_avg_sq"}), options_(options) {}
  void step(double lr, double grad_scale) override {
    const auto list = items(lr);
    ++steps_;
    kernels({}).adamw({list.data(), static_cast<int64_t>(list.size()), steps_, options_.beta1,
                       options_.beta2, options_.eps, grad_scale});
    release();
  }

 private:
  AdamWOptions options_;
};

class Sgd : public MomentOptimizer {
 public:
  Sgd(std::vector<ParameterGroup> groups, SgdOptions options)
      : MomentOptimizer(std::move(groups), {"momentum_buffer"}), options_(options) {}
  void step(double lr, double grad_scale) override {
    const auto list = items(lr);
    ++steps_;
    kernels({}).sgd({list.data(), static_cast<int64_t>(list.size()), steps_, options_.momentum,
                     grad_scale, options_.nesterov});
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

double global_grad_norm(const std::vector<NamedParameter>& parameters) {
  std::vector<OptimizerItem> items;
  std::vector<Tensor> kept;
  for (const NamedParameter& p : parameters) {
    const Tensor g = grad(p.value);
    if (!g.defined()) continue;
    kept.push_back(raw::contiguous(g));
    items.push_back({nullptr, kept.back().data<float>(), nullptr, nullptr, g.numel(), 0, 0});
  }
  double sum = 0;
  kernels({}).sum_squares({items.data(), static_cast<int64_t>(items.size()), &sum});
  return std::sqrt(sum);
}

double clip_factor(double norm, double max_norm) {
  return max_norm > 0 ? std::min(1.0, max_norm / (norm + 1e-6)) : 1.0;
}

}  // namespace mullion
