// One pass, timed, and the most memory beyond what was there before.
#include "apps/tic/step_cost.h"

#include <chrono>

#include "autograd/engine.h"
#include "autograd/ops.h"

namespace mullion {

StepCost step_cost(const Tic& model, const SampleShape& shape, int64_t images) {
  const Device device = model.device();
  const auto before = static_cast<double>(memory_use(device).live);
  reset_peak_memory(device);
  const auto begin = std::chrono::steady_clock::now();
  {
    const Tensor input =
        raw::to_device(Tensor::zeros({images, shape.height, shape.width, shape.channels}), device);
    const Tensor labels = Tensor::from(std::vector<int64_t>(static_cast<size_t>(images)), {images});
    const Tensor loss = cross_entropy(model(input), labels, 1);
    if (requires_grad(loss)) backward(loss);
    loss.item();  // waits for the device
  }
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  const StepCost cost{time.count(), static_cast<double>(memory_use(device).peak) - before};
  reset_peak_memory(device);
  return cost;
}

}  // namespace mullion
