// A small net that tells two spirals apart: tensors, autograd and AdamW, and nothing else.
// Two hidden layers of 32 units; the classes cannot be separated by fewer than a few turns of a
// curve, so the loss falls to zero only if the gradients are right. Prints the accuracy.
#include <cmath>
#include <cstdio>
#include <numbers>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "nn/init.h"
#include "nn/linear.h"
#include "optim/optimizer.h"

using namespace mullion;

struct Net : Module {
  Linear first{2, 32, true}, second{32, 32, true}, last{32, 2, true};
  void fields(Fields& fields) override {
    fields("first", first);
    fields("second", second);
    fields("last", last);
  }
  Tensor operator()(const Tensor& x) const { return last(tanh(second(tanh(first(x))))); }
};

int main() {
  constexpr int64_t kPoints = 200;  // half of them on each spiral
  std::vector<float> points;
  std::vector<int64_t> classes;
  for (int64_t i = 0; i < kPoints; ++i) {
    const double radius = 0.2 + 2.0 * static_cast<double>(i / 2) / (kPoints / 2);
    const double angle = 3 * radius + std::numbers::pi * static_cast<double>(i % 2);
    points.push_back(static_cast<float>(radius * std::cos(angle)));
    points.push_back(static_cast<float>(radius * std::sin(angle)));
    classes.push_back(i % 2);
  }
  const Tensor x = Tensor::from(points, {kPoints, 2}), y = Tensor::from(classes, {kPoints});

  Net net;
  for_each_parameter(net, [](const std::string& name, Tensor& parameter) {
    if (parameter.rank() == 2)
      init::kaiming_uniform(parameter, 1, init::stream_of(name));
    else
      init::constant(parameter, 0);
  });
  set_trainable(net, [](const std::string&) { return true; });
  const auto parameters = named_parameters(net);
  const auto optimizer = make_adamw({{parameters}});

  for (int step = 0; step <= 1000; ++step) {
    const Tensor loss = cross_entropy(net(x), y, 1.0 / kPoints);  // the mean over the points
    if (step % 250 == 0) std::printf("step %4d  loss %.4f\n", step, loss.item());
    backward(loss);
    optimizer->step(/*lr=*/0.01);
    clear_grads(parameters);
  }

  const std::vector<float> logits = net(x).to_vector<float>();
  int64_t right = 0;
  for (int64_t i = 0; i < kPoints; ++i)
    right += (logits[2 * i + 1] > logits[2 * i]) == (classes[i] == 1);
  std::printf("%lld of %lld points are on the right side\n", static_cast<long long>(right),
              static_cast<long long>(kPoints));
  return right == kPoints ? 0 : 1;
}
