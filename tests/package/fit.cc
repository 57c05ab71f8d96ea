// A user's program: a line fitted by AdamW, and a model's configuration checked.
#include <cmath>
#include <cstdio>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "models/llama/config.h"
#include "nn/linear.h"
#include "optim/optimizer.h"

using namespace mullion;

int main() {
  const Tensor x = Tensor::from(std::vector<float>{1, 2, 3, 4}, {4, 1});
  const Tensor y = Tensor::from(std::vector<float>{3, 5, 7, 9}, {4, 1});
  const Tensor slope = Tensor::from(std::vector<float>{0}, {1, 1});
  const Tensor offset = Tensor::from(std::vector<float>{0}, {1});
  set_requires_grad(slope, true);
  set_requires_grad(offset, true);
  const std::vector<NamedParameter> parameters = {{"slope", slope}, {"offset", offset}};
  const auto optimizer = make_adamw({{parameters}});
  for (int step = 0; step < 2000; ++step) {
    const Tensor difference = sub(linear(x, slope, offset), y);
    backward(sum(mul(difference, difference)));
    optimizer->step(/*lr=*/0.05);
    clear_grads(parameters);
  }
  std::printf("y = %.3f x + %.3f, a head of %lld\n", slope.item(), offset.item(),
              static_cast<long long>(LlamaConfig{}.head_dim));
  return std::abs(slope.item() - 2) + std::abs(offset.item() - 1) < 0.02 ? 0 : 1;
}
