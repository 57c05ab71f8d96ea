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
  // One update. With a sum of squares (grad_sum_squares) the gradients are clipped to max_norm (0:
  // not clipped), and where the sum is not finite no value changes. Nobody waits for the sum: who
  // reads it afterwards and finds that the update was left out calls retract().
  virtual void step(double lr, const Tensor& sum_squares = {}, double max_norm = 0) = 0;
  // The last step() was left out, so it does not count.
  void retract() { --steps_; }
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

// The sum of squares of all gradients, as one f64 on their device; not finite where one of them or
// of the watched tensors (the losses they come from) is not.
Tensor grad_sum_squares(const std::vector<NamedParameter>& parameters,
                        const std::vector<Tensor>& watched = {});
// Its root: the 2-norm of all gradients together. Waits for it.
double global_grad_norm(const std::vector<NamedParameter>& parameters);

}  // namespace mullion
