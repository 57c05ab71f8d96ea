// Speed and memory of a LoRA training step: tokens a second by the median step, beside the peer of
// peer_llama_step.py; on a device also the part of its rate of products (8192^3, measured in the
// same run) that the step's useful operations come to. MODEL is a checkpoint, or a shape with
// random weights: llama-7b, smollm2-135m. The last line of stdout is one JSON object.
//   bench_llama_step MODEL [--ctx-size 512] [--attn full|sf|s2] [--steps 5] [--threads 0]
//                    [--recompute none|mlp|block] [--train-also none|embed,norm] [--dtype f32|bf16]
//                    [--device cpu|cuda] [--amp off|tf32|bf16] [--cuda-graph]
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#include "autograd/engine.h"
#include "autograd/step_graph.h"
#include "models/llama/load.h"
#include "optim/optimizer.h"
#include "tensor/parallel.h"
#include "tensor/random.h"
#include "tests/bench/device.h"

namespace mullion {
namespace {

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

// The shapes that need no file.
const LlamaConfig* shape_called(const std::string& name, int64_t context) {
  static LlamaConfig config;
  config.hidden_size = 4096, config.intermediate_size = 11008, config.num_hidden_layers = 32;
  config.num_attention_heads = config.num_key_value_heads = 32, config.head_dim = 128;
  config.vocab_size = 32000;
  config.max_position_embeddings = context;
  if (name == "llama-7b") return &config;
  config.hidden_size = 576, config.intermediate_size = 1536, config.num_hidden_layers = 30;
  config.num_attention_heads = 9, config.num_key_value_heads = 3, config.head_dim = 64;
  config.vocab_size = 49152, config.tie_word_embeddings = true;
  return name == "smollm2-135m" ? &config : nullptr;
}

std::unique_ptr<Llama> random_llama(LlamaConfig config, DType matrices, const bench::Where& where) {
  if (where.smoke)
    config.num_hidden_layers = 1,
    config.hidden_size = config.intermediate_size = config.vocab_size = 64;
  auto model = std::make_unique<Llama>(config);
  uint64_t stream = 0;
  for_each_parameter(*model, [&](const std::string&, Tensor& p) {
    if (p.rank() != 2) return p = Tensor::full(p.shape(), 1, DType::f32, where.device), void();
    const Tensor values = Tensor::empty(p.shape(), DType::f32, where.device);
    kernels(where.device)
        .random({.kind = RandomArgs::Kind::normal,
                 .y = values.data<void>(),
                 .dtype = DType::f32,
                 .n = values.numel(),
                 .a = 0,
                 .b = config.initializer_range,
                 .seed = 1,
                 .stream = ++stream});
    p = raw::cast(values, matrices);
  });
  return model;
}

std::unique_ptr<Llama> model_of(const Arguments& a, const bench::Where& where) {
  LlamaLoadOptions load;
  load.context = a.context, load.device = where.device;
  if (a.dtype == "bf16") load.matrix_dtype = DType::bf16;
  if (const LlamaConfig* shape = shape_called(a.model, a.context))
    return random_llama(*shape, load.matrix_dtype, where);
  return load_llama(open_llama_checkpoint(a.model), load);
}

// 1e9 operations of a step that a model without recomputation needs: products with the frozen
// matrices forward and for the gradient of their inputs, attention over the visible pairs in both
// directions.
double gflop_of_step(Llama& model, int64_t context) {
  const LlamaConfig& c = model.config();
  const auto count = [](int64_t n) { return static_cast<double>(n); };
  const double heads = count((c.num_attention_heads + c.num_key_value_heads) * c.head_dim);
  const double layer =
      2 * heads * count(c.hidden_size) + 3 * count(c.hidden_size) * count(c.intermediate_size);
  const double weights =
      layer * count(c.num_hidden_layers) + count(c.vocab_size) * count(c.hidden_size);
  double pairs = 0;
  for (int64_t h = 0; h < c.num_attention_heads; ++h)
    pairs += count(visible_pairs(model.pattern(), h, context));
  return 1e-9 * (4 * weights * count(context) +
                 3.5 * 4 * count(c.head_dim) * pairs * count(c.num_hidden_layers));
}

void measure(Arguments a, const bench::Where& where) {
  if (where.smoke) a.context = std::min<int64_t>(a.context, 16), a.steps = 1;
  set_num_threads(a.threads);
  bench::DeviceLimits limits{};
  if (!where.on_cpu()) limits = bench::print_limits("llama_step", where);
  release_cached_memory(where.device);  // the matrices of the limits
  const auto model = model_of(a, where);
  model->set_compute_type(where.type());
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
  const Tensor x = Tensor::from(ids, {1, a.context}, where.device);
  const Tensor y = Tensor::from(targets, {1, a.context}, where.device);
  std::vector<Tensor> trained;
  for (const NamedParameter& p : parameters) trained.push_back(p.value);
  double middle = 0;  // when the forward was done; a recorded step does not stop there
  StepGraph passes(where.graph ? GraphUse::on : GraphUse::off, where.device, trained,
                   [&](const StepGraph::Inputs& in) {
                     const Tensor loss =
                         model->loss(in[0], in[1], 1.0 / static_cast<double>(a.context - 1));
                     if (!where.graph) synchronize(where.device);
                     middle = bench::wall_seconds();
                     backward(loss);
                     return loss;
                   });
  reset_peak_memory(where.device);
  std::vector<double> seconds;
  double forward = 0, whole = 0;
  const int untimed = where.graph ? 3 : 1;
  for (int step = 0; step < untimed + a.steps; ++step) {
    synchronize(where.device);
    const double start = bench::wall_seconds();
    clear_grads(parameters);
    passes.run(1, [&] { return StepGraph::Inputs{x, y}; });
    optimizer->step(1e-5, grad_sum_squares(parameters), 1);
    synchronize(where.device);
    const double end = bench::wall_seconds();
    if (step < untimed) continue;
    seconds.push_back(end - start);
    if (!where.graph) forward += middle - start;
    whole += end - start;
  }
  if (where.graph) CHECK(passes.replays() == a.steps + 1, "--cuda-graph: ", passes.take_message());
  const bench::Spread step(seconds);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf(
      "{\"bench\": \"llama_step\", %s, \"cuda_graph\": %s, \"model\": \"%s\", \"context\": %lld, "
      "\"attn\": \"%s\", "
      "\"dtype\": \"%s\", \"recompute\": \"%s\", \"threads\": %d, \"tok_s\": %.1f, \"step_s\": "
      "%.3f, \"step_s_min\": %.3f, \"step_s_max\": %.3f, \"forward_share\": %.2f, "
      "\"tensor_peak_gib\": %.2f, \"rss_peak_gib\": %.2f",
      where.json().c_str(), where.graph ? "true" : "false",
      std::filesystem::path(a.model).filename().c_str(), static_cast<long long>(a.context),
      a.attn.c_str(), a.dtype.c_str(), kRecomputes[static_cast<int>(a.recompute)], num_threads(),
      static_cast<double>(a.context) / step.median, step.median, step.least, step.most,
      forward / whole, static_cast<double>(memory_use(where.device).peak) / (1 << 30),
      static_cast<double>(usage.ru_maxrss) / (1 << 20));
  const double gflops = gflop_of_step(*model, a.context) / step.median;
  if (!where.on_cpu())
    std::printf(", \"gflops\": %.0f, \"of_products\": %.3f", gflops, gflops / limits.gflops);
  std::printf("}\n");
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) {
  return mullion::bench::run(argc, argv,
                             [](int count, char** values, const mullion::bench::Where& where) {
                               mullion::measure(mullion::parse(count, values), where);
                             });
}
