// How much of the sums of gradients over ranks is hidden behind the backward pass: training steps
// of a LLaMA by ranks that are threads of this process, over a link of 1 ms and 100 MB/s that the
// messages wait for (tensor/local_collective.h). Steps of three kinds take turns:
//
//   free    on a link that costs no time
//   after   on the slow link, sums after the backward pass
//   within  on the slow link, sums while the backward pass goes on (optim/parallel/rank_sum.h)
//
// and the hidden share is (after - within) / (after - free), of medians. Of all that a rank sends
// in a step, bytes through the link's rate, 1 - (within - free) / traffic is hidden. With a core
// for each rank:
//   bench_rank_overlap [--ranks 2] [--steps 7] [--passes 1] [--layers 8] [--tokens 512] [--ms 1]
//                      [--mb-s 100] [--full 0]
// `passes` are those of a rank in a step. --full 1: weights are spread (full_shard.h), and what is
// not hidden are also the gathers of weights, ahead of which the blocks are too short. The last
// line of stdout is one JSON object.
#include <cstdio>
#include <map>
#include <string>

#include "models/llama/model.h"
#include "nn/init.h"
#include "optim/parallel/full_shard.h"
#include "optim/parallel/rank_sum.h"
#include "optim/update_step.h"
#include "tensor/local_collective.h"
#include "tensor/parallel.h"
#include "tests/bench/device.h"

namespace mullion {
namespace {

using Numbers = std::map<std::string, double>;

Numbers parse(int argc, char** argv) {
  Numbers numbers = {{"--ranks", 2},    {"--steps", 7}, {"--passes", 1}, {"--layers", 8},
                     {"--tokens", 512}, {"--ms", 1},    {"--mb-s", 100}, {"--full", 0}};
  for (int i = 1; i < argc; i += 2) {
    const auto at = numbers.find(argv[i]);
    CHECK_AS(Fault::usage, at != numbers.end(), argv[i], ": unknown");
    CHECK_AS(Fault::usage, i + 1 < argc, argv[i], ": needs a value");
    at->second = std::stod(argv[i + 1]);
  }
  return numbers;
}

// One rank's trainings, each with weights of its own.
struct Training {
  std::unique_ptr<Llama> model;
  std::unique_ptr<UpdateStep> update;

  Training(Communicator& ranks, const LlamaConfig& config, int64_t passes, bool overlap, bool full)
      : model(std::make_unique<Llama>(config)) {
    model->initialize(1);
    set_trainable(*model, [](const std::string&) { return true; });
    auto parameters = trainable_parameters(*model);
    UpdateOptions options;
    if (full) {
      model->set_recompute(Recompute::block);
      std::vector<Module*> blocks;
      for (const auto& layer : model->layers()) blocks.push_back(layer.get());
      const auto spread =
          std::make_shared<FullShard>(ranks, *model, blocks, Device{}, passes * ranks.size(),
                                      FullShardOptions{.overlap = overlap});
      parameters = spread->pieces();
      options.ranks = spread;
    } else {
      options.ranks = std::make_shared<RankSum>(ranks, parameters, passes * ranks.size(),
                                                RankSumOptions{.overlap = overlap});
    }
    update = std::make_unique<UpdateStep>(
        parameters, make_adamw({{parameters, 1, 0}}),
        [this](const UpdateStep::Inputs& in) { return model->loss(in[0], in[1], 1e-3); },
        std::move(options));
  }
  void step(int64_t passes, const Tensor& ids, const Tensor& targets) {
    update->accumulate(passes, [&] { return UpdateStep::Inputs{ids, targets}; });
    update->apply(1e-5);
  }
};

// Seconds of each timed step, as rank 0 sees them, and the bytes that it sends in one.
struct Steps {
  std::vector<double> seconds;
  double sent = 0;
};

double all_of(const SentBytes& s) {
  return static_cast<double>(s.reduced + s.scattered + s.gathered + s.broadcast + s.exchanged);
}

Steps make_steps(const Numbers& numbers, const LlamaConfig& config, bool overlap, Link link) {
  const auto steps = static_cast<int>(numbers.at("--steps"));
  const auto passes = static_cast<int64_t>(numbers.at("--passes"));
  Steps result;
  run_ranks(
      static_cast<int64_t>(numbers.at("--ranks")),
      [&](Communicator& ranks) {
        set_num_threads(1);
        Training training(ranks, config, passes, overlap, numbers.at("--full") > 0);
        std::vector<int64_t> ids(static_cast<size_t>(config.max_position_embeddings));
        for (size_t i = 0; i < ids.size(); ++i)
          ids[i] = static_cast<int64_t>(i * 7 + 1) % config.vocab_size;
        const Tensor x = Tensor::from(ids, {1, std::ssize(ids)});
        for (int step = 0; step < 1 + steps; ++step) {  // the first one shows the order
          ranks.barrier();
          const double start = bench::wall_seconds(), before = all_of(ranks.sent());
          training.step(passes, x, x);
          ranks.barrier();
          if (step == 0 || ranks.rank() > 0) continue;
          result.seconds.push_back(bench::wall_seconds() - start);
          result.sent = all_of(ranks.sent()) - before;
        }
      },
      600, link);
  return result;
}

void measure(const Numbers& numbers, bool smoke) {
  LlamaConfig config;
  config.hidden_size = smoke ? 16 : 256, config.intermediate_size = smoke ? 32 : 1024;
  config.num_attention_heads = config.num_key_value_heads = 4;
  config.head_dim = config.hidden_size / 4, config.vocab_size = smoke ? 32 : 512;
  config.num_hidden_layers = static_cast<int64_t>(numbers.at("--layers"));
  config.max_position_embeddings = static_cast<int64_t>(numbers.at("--tokens"));
  Llama shape(config);
  const double mib = 4.0 * static_cast<double>(element_count(shape)) / (1 << 20);
  const Link slow{numbers.at("--ms") * 1e-3, numbers.at("--mb-s") * 1e6};
  std::vector<double> free, after, within;
  double sent = 0;
  const auto add = [&](std::vector<double>& all, bool overlap, Link link) {
    const Steps some = make_steps(numbers, config, overlap, link);
    all.insert(all.end(), some.seconds.begin(), some.seconds.end());
    sent = some.sent;
  };
  for (int round = 0; round < (smoke ? 1 : 2); ++round) {
    add(free, true, {});
    add(after, false, slow);
    add(within, true, slow);
  }
  const double f = bench::Spread(free).median, a = bench::Spread(after).median,
               w = bench::Spread(within).median, traffic = sent / slow.bytes_a_second;
  std::printf(
      "{\"bench\": \"rank_overlap\", \"full\": %.0f, \"ranks\": %.0f, \"passes\": %.0f, "
      "\"gradients_mib\": %.1f, "
      "\"ms\": %g, \"mb_s\": %g, \"free_s\": %.4f, \"after_s\": %.4f, \"within_s\": %.4f, "
      "\"hidden\": %.3f, \"traffic_s\": %.4f, \"hidden_of_traffic\": %.3f}\n",
      numbers.at("--full"), numbers.at("--ranks"), numbers.at("--passes"), mib, numbers.at("--ms"),
      numbers.at("--mb-s"), f, a, w, (a - w) / (a - f), traffic, 1 - (w - f) / traffic);
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) {
  return mullion::bench::run(argc, argv,
                             [](int count, char** values, const mullion::bench::Where& where) {
                               CHECK_AS(mullion::Fault::usage, where.on_cpu() && !where.graph,
                                        "bench_rank_overlap: on the CPU alone, without a graph");
                               mullion::measure(mullion::parse(count, values), where.smoke);
                             });
}
