// Speed of a TiC training step on random images: images a second by the median step, beside the
// peers of peer_tic.py; on a device also the part of its rate of products (8192^3, measured in the
// same run) that the step's products come to. The last line of stdout is one JSON object.
//   bench_tic_step [PRESET] [SIZE] [BATCH] [STEPS] [THREADS] [dwconv] [--device cpu|cuda]
//                  [--amp MODE] [--cuda-graph]
//   e.g. tic-n 32 64 10 2, tic-n 32 128 10 1 dwconv (train_tic --preset cifar10-tic-n), or
//   tic-t 224 128 30 --device cuda --amp bf16
#include <cstdio>
#include <cstdlib>
#include <string>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "autograd/step_graph.h"
#include "models/tic/model.h"
#include "optim/optimizer.h"
#include "tensor/kernel_table.h"
#include "tensor/parallel.h"
#include "tests/bench/device.h"

namespace mullion {
namespace {

void run(int argc, char** argv, const bench::Where& where) {
  const std::string preset = argc > 1 && !where.smoke ? argv[1] : "tic-n";
  const auto number = [&](int i, int64_t otherwise) {
    return argc > i ? std::strtoll(argv[i], nullptr, 10) : otherwise;
  };
  const int64_t size = where.smoke ? 16 : number(2, 32), batch = where.smoke ? 1 : number(3, 64);
  const int64_t steps = where.smoke ? 1 : number(4, 10);
  const int64_t untimed = where.on_cpu() || (where.smoke && !where.graph) ? 1 : 3;
  set_num_threads(static_cast<int>(number(5, 0)));
  bench::DeviceLimits limits{};
  if (!where.on_cpu()) limits = bench::print_limits("tic_step", where);
  TicConfig config = tic_preset(preset);
  config.mlp_dwconv = argc > 6;
  if (config.mlp_dwconv && std::string(argv[6]) != "dwconv")
    fail(Fault::usage, "bench_tic_step: '", argv[6], "' is not dwconv");
  Tic model(config);
  model.initialize(1);
  move_to(model, where.device);
  model.set_compute_type(where.type());
  set_trainable(model, [](const std::string&) { return true; });
  const auto parameters = trainable_parameters(model);
  const auto optimizer = make_adamw({{parameters, 1, 0.05}});
  const Tensor images = Tensor::empty({batch, size, size, 3}, DType::f32, where.device);
  kernels(where.device)
      .random({.kind = RandomArgs::Kind::normal,
               .y = images.data<void>(),
               .dtype = DType::f32,
               .n = images.numel(),
               .a = 0,
               .b = 1,
               .seed = 3,
               .stream = 0});
  std::vector<int64_t> labels(static_cast<size_t>(batch));
  for (size_t i = 0; i < labels.size(); ++i)
    labels[i] = static_cast<int64_t>(i) % model.config().num_classes;
  const Tensor targets = Tensor::from(labels, {batch}, where.device);
  std::vector<Tensor> trained;
  for (const NamedParameter& p : parameters) trained.push_back(p.value);
  StepGraph passes(where.graph ? GraphUse::on : GraphUse::off, where.device, trained,
                   [&](const StepGraph::Inputs& in) {
                     const Tensor loss =
                         cross_entropy(model(in[0]), in[1], 1.0 / static_cast<double>(batch));
                     backward(loss);
                     return loss;
                   });
  reset_peak_memory(where.device);
  std::vector<double> seconds;
  for (int64_t step = 0; step < untimed + steps; ++step) {
    synchronize(where.device);
    const double start = bench::wall_seconds();
    clear_grads(parameters);
    passes.run(1, [&] { return StepGraph::Inputs{images, targets}; });
    optimizer->step(1e-4, grad_sum_squares(parameters), 5);
    synchronize(where.device);
    if (step >= untimed) seconds.push_back(bench::wall_seconds() - start);
  }
  if (where.graph) CHECK(passes.replays() == steps + 1, "--cuda-graph: ", passes.take_message());
  const bench::Spread step(seconds);
  const double gflops =
      6e-9 * static_cast<double>(tic_macs(model.config(), size, size) * batch) / step.median;
  std::printf(
      "{\"bench\": \"tic_step\", %s, \"cuda_graph\": %s, \"preset\": \"%s\", \"img_size\": %lld, "
      "\"batch\": %lld, "
      "\"mlp_dwconv\": %s, \"threads\": %d, \"img_s\": %.1f, \"step_s\": %.4f, \"step_s_min\": "
      "%.4f, \"step_s_max\": "
      "%.4f, \"tensor_peak_gib\": %.3f, \"gflop_s\": %.1f",
      where.json().c_str(), where.graph ? "true" : "false", preset.c_str(),
      static_cast<long long>(size), static_cast<long long>(batch),
      config.mlp_dwconv ? "true" : "false", num_threads(), static_cast<double>(batch) / step.median,
      step.median, step.least, step.most,
      static_cast<double>(memory_use(where.device).peak) / (1 << 30), gflops);
  if (!where.on_cpu()) std::printf(", \"of_products\": %.3f", gflops / limits.gflops);
  std::printf("}\n");
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) { return mullion::bench::run(argc, argv, mullion::run); }
