// Speed and memory of a LoRA training step: tokens a second by the median step, beside the peer of
// peer_llama_step.py. The last line of stdout is one JSON object.
//   bench_llama_step MODEL [--ctx-size 512] [--attn full|sf|s2] [--steps 5] [--threads 0]
//                    [--recompute none|mlp|block] [--train-also none|embed,norm] [--dtype f32|bf16]
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>

#include "autograd/engine.h"
#include "models/llama/load.h"
#include "optim/optimizer.h"
#include "tensor/parallel.h"
#include "tensor/random.h"

namespace mullion {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Arguments {
  std::string model, attn = "full", train_also = "none", dtype = "f32";
  int64_t context = 512;
  int steps = 5, threads = 0;
  Recompute recompute = Recompute::none;
};

constexpr const char* kRecomputes[] = {"none", "mlp", "block"};
Recompute recompute_of(const std::string& name) {
  for (int i = 0; i < 3; ++i)
    if (name == kRecomputes[i]) return static_cast<Recompute>(i);
  fail(Fault::usage, "--recompute ", name, ": expected none, mlp or block");
}

Arguments parse(int argc, char** argv) {
  CHECK_AS(Fault::usage, argc >= 2, "usage: bench_llama_step MODEL [--ctx-size N] [--attn NAME] ",
           "[--steps N] [--threads N] [--recompute WHAT] [--train-also WHAT] [--dtype TYPE]");
  Arguments a;
  a.model = argv[1];
  for (int i = 2; i < argc; ++i) {
    const std::string flag = argv[i];
    CHECK_AS(Fault::usage, i + 1 < argc, flag, ": needs a value");
    const std::string value = argv[++i];
    if (flag == "--ctx-size")
      a.context = std::stoll(value);
    else if (flag == "--attn")
      a.attn = value;
    else if (flag == "--steps")
      a.steps = std::stoi(value);
    else if (flag == "--threads")
      a.threads = std::stoi(value);
    else if (flag == "--train-also")
      a.train_also = value;
    else if (flag == "--dtype")
      a.dtype = value;
    else if (flag == "--recompute")
      a.recompute = recompute_of(value);
    else
      fail(Fault::usage, flag, ": unknown");
  }
  return a;
}

int run(const Arguments& a) {
  set_num_threads(a.threads);
  LlamaLoadOptions load;
  load.context = a.context;
  if (a.dtype == "bf16") load.matrix_dtype = DType::bf16;
  const auto model = load_llama(open_llama_checkpoint(a.model), load);
  LoraOptions lora;
  lora.train_embedding = lora.train_norms = a.train_also != "none";
  add_lora(*model, lora, 1);
  PatternOptions pattern;
  pattern.n_heads = model->config().num_attention_heads;
  pattern.context = a.context;
  model->set_pattern(make_pattern(a.attn, pattern));
  model->set_recompute(a.recompute);
  const auto parameters = trainable_parameters(*model);
  const auto optimizer = make_adamw({{parameters, 1, 0}});
  Philox random{7, 0, 0};
  std::vector<int64_t> ids(static_cast<size_t>(a.context)), targets;
  for (int64_t& id : ids) id = random.below(static_cast<uint32_t>(model->config().vocab_size));
  targets.assign(ids.begin() + 1, ids.end());
  targets.push_back(-100);
  const Tensor x = Tensor::from(ids, {1, a.context}), y = Tensor::from(targets, {1, a.context});
  reset_peak_memory();
  std::vector<double> seconds;
  double forward = 0, whole = 0;
  for (int step = 0; step <= a.steps; ++step) {  // the first is not timed
    const double start = now();
    clear_grads(parameters);
    const Tensor loss = model->loss(x, y, 1.0 / static_cast<double>(a.context - 1));
    const double middle = now();
    backward(loss);
    optimizer->step(1e-5, grad_sum_squares(parameters), 1);
    const double end = now();
    if (step == 0) continue;
    seconds.push_back(end - start);
    forward += middle - start;
    whole += end - start;
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf(
      "{\"bench\": \"llama_step\", \"context\": %lld, \"attn\": \"%s\", \"dtype\": \"%s\", "
      "\"recompute\": \"%s\", \"threads\": %d, \"tok_s\": %.1f, \"step_s\": %.3f, "
      "\"step_s_min\": %.3f, \"step_s_max\": %.3f, \"forward_share\": %.2f, "
      "\"tensor_peak_gib\": %.2f, \"rss_peak_gib\": %.2f}\n",
      static_cast<long long>(a.context), a.attn.c_str(), a.dtype.c_str(),
      kRecomputes[static_cast<int>(a.recompute)], num_threads(),
      static_cast<double>(a.context) / median, median, seconds.front(), seconds.back(),
      forward / whole, static_cast<double>(memory_use().peak) / (1 << 30),
      static_cast<double>(usage.ru_maxrss) / (1 << 20));
  return 0;
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) {
  try {
    return mullion::run(mullion::parse(argc, argv));
  } catch (const mullion::Error& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return static_cast<int>(e.fault());
  }
}
