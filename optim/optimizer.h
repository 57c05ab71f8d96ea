// Optimizers over lists of parameters. A step updates all of them by one kernel call; a parameter
// that has no gradient is left alone. The state is named tensors, for checkpoints.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "nn/module.h"

namespace mullion {

struct ParameterGroup {
  std::vector<NamedParameter> parameters;
  double lr_scale = 1;  // of the learning rate given to step()
  double weight_decay = 0;
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // One update with gradients multiplied by grad_scale (1, or the factor of clipping).
  virtual void step(double lr, double grad_scale = 1) = 0;
  // Moments by name, e.g. "exp_avg.layers.0.weight": handles that a checkpoint writes or fills.
  virtual std::vector<NamedParameter> state() const = 0;
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }
  const std::vector<ParameterGroup>& groups() const { return groups_; }

 protected:
  explicit Optimizer(std::vector<ParameterGroup> groups) : groups_(std::move(groups)) {}
  std::vector<ParameterGroup> groups_;
  int64_t steps_ = 0;
};

// Loshchilov and Hutter 2019; PyTorch's formula.
struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
};
std::unique_ptr<Optimizer> make_adamw(std::vector<ParameterGroup> groups,
                                      AdamWOptions options = {});

struct SgdOptions {
  double momentum = 0.9;
  bool nesterov = false;
};
std::unique_ptr<Optimizer> make_sgd(std::vector<ParameterGroup> groups, SgdOptions options = {});

// The 2-norm of all gradients together; not finite where one of them is not.
double global_grad_norm(const std::vector<NamedParameter>& parameters);
// The factor that brings a norm down to at most max_norm (PyTorch's: max / (norm + 1e-6), at most
// 1); 1 where max_norm is 0, which means no clipping.
double clip_factor(double norm, double max_norm);

}  // namespace mullion
