// Speed of a TiC training step on random images: images a second by the median step, beside the
// peers of peer_tic.py. The last line of stdout is one JSON object.
//   bench_tic_step [PRESET] [SIZE] [BATCH] [STEPS] [THREADS]        e.g. tic-n 32 64 10 2
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "models/tic/model.h"
#include "optim/optimizer.h"
#include "tensor/backend.h"
#include "tensor/kernel_args/elementwise.h"
#include "tensor/parallel.h"

int main(int argc, char** argv) {
  using namespace mullion;
  const std::string preset = argc > 1 ? argv[1] : "tic-n";
  const auto number = [&](int i, int64_t otherwise) {
    return argc > i ? std::strtoll(argv[i], nullptr, 10) : otherwise;
  };
  const int64_t size = number(2, 32), batch = number(3, 64), steps = number(4, 10);
  set_num_threads(static_cast<int>(number(5, 0)));
  Tic model(tic_preset(preset));
  model.initialize(1);
  set_trainable(model, [](const std::string&) { return true; });
  const auto parameters = trainable_parameters(model);
  const auto optimizer = make_adamw({{parameters, 1, 0.05}});
  const Tensor images = Tensor::empty({batch, size, size, 3});
  kernels({}).random(
      {RandomArgs::Kind::normal, images.data<void>(), DType::f32, images.numel(), 0, 1, 3, 0});
  std::vector<int64_t> labels(static_cast<size_t>(batch));
  for (size_t i = 0; i < labels.size(); ++i)
    labels[i] = static_cast<int64_t>(i) % model.config().num_classes;
  const Tensor targets = Tensor::from(labels, {batch});
  reset_peak_memory();
  std::vector<double> seconds;
  for (int64_t step = 0; step <= steps; ++step) {  // the first is not timed
    const auto start = std::chrono::steady_clock::now();
    clear_grads(parameters);
    backward(cross_entropy(model(images), targets, 1.0 / static_cast<double>(batch)));
    optimizer->step(1e-4, grad_sum_squares(parameters), 5);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    if (step > 0) seconds.push_back(taken.count());
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  std::printf(
      "{\"bench\": \"tic_step\", \"preset\": \"%s\", \"img_size\": %lld, \"batch\": %lld, "
      "\"threads\": %d, \"img_s\": %.1f, \"step_s\": %.4f, \"step_s_min\": %.4f, "
      "\"tensor_peak_gib\": %.3f, \"gflop_s\": %.1f}\n",
      preset.c_str(), static_cast<long long>(size), static_cast<long long>(batch), num_threads(),
      static_cast<double>(batch) / median, median, seconds.front(),
      static_cast<double>(memory_use().peak) / (1 << 30),
      6e-9 * static_cast<double>(tic_macs(model.config(), size, size) * batch) / median);
  return 0;
}
