// Steps that are recorded once and replayed compute the same bits as steps that are queued launch
// by launch, for both models, with everything that changes from step to step: batches, learning
// rate, stochastic depth, averages. And what cannot be recorded is computed all the same.
#include "autograd/step_graph.h"

#include <cmath>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "models/llama/load.h"
#include "models/llama/model.h"
#include "models/tic/model.h"
#include "optim/ema.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"
#include "tensor/attention_pattern.h"
#include "tensor/step_memory.h"
#include "tests/cuda/device_runs.h"
#include "tests/small_llama_config.h"

namespace mullion::test {
namespace {

using Inputs = StepGraph::Inputs;
constexpr int kSteps = 10;
// The first step and the rehearsal are queued launch by launch.
constexpr int kReplays = kSteps - 2;

class StepGraphs : public OnDevice<> {};

struct Outcome {
  std::vector<double> losses, norms;
  std::vector<std::vector<float>> values;  // weights, moments, averages
  int64_t replays = 0;
  std::string messages;
};

void expect_the_same_bits(const Outcome& actual, const Outcome& expected) {
  EXPECT_EQ(actual.losses, expected.losses);
  EXPECT_EQ(actual.norms, expected.norms);
  EXPECT_EQ(actual.values, expected.values);
  EXPECT_LT(expected.losses.back(), expected.losses.front()) << "nothing was learnt";
}

// Ten steps as the programs make them; next(step, pass) gives a batch, between(step) is called
// after each step.
template <typename Next, typename Between>
Outcome train(Module& model, GraphUse use, int64_t passes, const StepGraph::Pass& pass, Next next,
              Between between) {
  const auto parameters = trainable_parameters(model);
  const auto optimizer = make_adamw({{parameters, 1, 0.01}}, {0.9, 0.95, 1e-8});
  Schedule schedule;
  schedule.kind = Schedule::Kind::cosine;
  schedule.lr = 1e-2;
  schedule.warmup_steps = 3;
  schedule.total_steps = kSteps;
  Ema ema(parameters, 0.9, true);
  std::vector<Tensor> trained;
  for (const NamedParameter& p : parameters) trained.push_back(p.value);
  StepGraph graph(use, kCuda, trained, pass);
  Outcome result;
  for (int step = 0; step < kSteps; ++step) {
    int64_t i = 0;
    const auto losses = graph.run(passes, [&] { return next(step, i++); });
    EXPECT_EQ(i, passes);
    const Tensor squares = grad_sum_squares(parameters, losses);
    optimizer->step(schedule.at(step), squares, 0.5);
    ema.update(squares);
    clear_grads(parameters);
    double loss = 0;
    for (const Tensor& l : losses) loss += l.item();
    result.losses.push_back(loss);
    result.norms.push_back(std::sqrt(squares.item()));
    result.messages += graph.take_message();
    between(step);
  }
  for (const auto& list : {parameters, optimizer->state(), ema.averages()})
    for (const NamedParameter& p : list) result.values.push_back(p.value.to_vector<float>());
  result.replays = graph.replays();
  return result;
}
void nothing(int) {}

// ---- TiC, with stochastic depth -----------------------------------------------------------------

struct TicRun {
  int64_t passes = 1, batch = 4;
  DType activations = DType::f32;
  std::function<int64_t(int step)> size = [](int) { return 16; };
  std::function<int64_t(int step)> images = [](int) { return 4; };
  bool frozen_streams = false;  // of the step in which it was recorded: a fault
  bool waits = false;           // within the step: another
};

Outcome train_tic(GraphUse use, const TicRun& run = {}) {
  TicConfig config = tic_preset("tic-n");
  config.dim = 8;
  config.heads = {1, 2, 4};
  Tic model(config);
  model.initialize(3);
  set_trainable(model, [](const std::string&) { return true; });
  move_to(model, kCuda);
  model.set_compute_type(run.activations);
  uint64_t draw = 0;
  const auto pass = [&](const Inputs& in) {
    const TicTraining training{0.4, 7,
                               run.frozen_streams ? drop_path_streams(config, draw) : in[2]};
    const Tensor loss = cross_entropy(model(in[0], &training), in[1], 0.25);
    backward(loss);
    if (run.waits) {
      EXPECT_TRUE(std::isfinite(loss.item()));
    }
    return loss;
  };
  const auto next = [&](int step, int64_t) -> Inputs {
    const int64_t side = run.size(step), count = run.images(step);
    std::vector<float> pixels(static_cast<size_t>(count * side * side * 3));
    for (size_t i = 0; i < pixels.size(); ++i)
      pixels[i] = std::sin(static_cast<float>((i * i + draw) % 1009));
    std::vector<int64_t> labels;
    for (int64_t i = 0; i < count; ++i) labels.push_back(i % 4);
    ++draw;
    // Images are sent ahead; labels come with the step.
    return {raw::to_device(Tensor::from(pixels, {count, side, side, 3}), kCuda),
            Tensor::from(labels, {count}), drop_path_streams(config, draw)};
  };
  return train(model, use, run.passes, pass, next, nothing);
}

TEST_F(StepGraphs, TicTrainsToTheSameBits) {
  const Outcome expected = train_tic(GraphUse::off);
  EXPECT_EQ(expected.replays, 0);
  in_every_order([&](const std::string& order) {
    SCOPED_TRACE(order);
    const Outcome actual = train_tic(GraphUse::on);
    EXPECT_EQ(actual.replays, kReplays) << actual.messages;
    EXPECT_NE(actual.messages.find("a step is recorded as a graph of"), std::string::npos);
    expect_the_same_bits(actual, expected);
  });
}

TEST_F(StepGraphs, TicAddsUpGradientsToTheSameBits) {
  TicRun run;
  run.passes = 2;
  const Outcome actual = train_tic(GraphUse::on, run);
  EXPECT_EQ(actual.replays, kReplays) << actual.messages;
  expect_the_same_bits(actual, train_tic(GraphUse::off, run));
}

TEST_F(StepGraphs, TicTrainsToTheSameBitsInBf16) {
  TicRun run;
  run.activations = DType::bf16;
  const Outcome actual = train_tic(GraphUse::on, run);
  EXPECT_EQ(actual.replays, kReplays) << actual.messages;
  expect_the_same_bits(actual, train_tic(GraphUse::off, run));
}

// The equality of bits does see an argument that should have changed.
TEST_F(StepGraphs, AFrozenStreamIsSeen) {
  TicRun run;
  const Outcome expected = train_tic(GraphUse::off, run);
  run.frozen_streams = true;
  expect_the_same_bits(train_tic(GraphUse::off, run), expected);
  const Outcome actual = train_tic(GraphUse::on, run);
  EXPECT_EQ(actual.replays, kReplays);
  // The step of the recording, the third, is right, and so is the one whose weights come of it.
  for (size_t step = 0; step < 3; ++step) EXPECT_EQ(actual.losses[step], expected.losses[step]);
  EXPECT_NE(actual.losses, expected.losses);
  EXPECT_NE(actual.values, expected.values);
}

TEST_F(StepGraphs, AStepThatWaitsIsNotRecorded) {
  TicRun run;
  const Outcome expected = train_tic(GraphUse::off, run);
  run.waits = true;
  const Outcome actual = train_tic(GraphUse::on, run);
  EXPECT_EQ(actual.replays, 0);
  EXPECT_EQ(actual.messages,
            "steps are not recorded as a graph: cuda: a step that is recorded reads data back to "
            "the host");
  expect_the_same_bits(actual, expected);
}

TEST_F(StepGraphs, OtherShapesAreComputedAsEver) {
  TicRun run;
  // A small batch, once.
  run.images = [](int step) { return step == 5 ? 2 : 4; };
  Outcome actual = train_tic(GraphUse::on, run);
  EXPECT_EQ(actual.replays, kReplays - 1) << actual.messages;
  expect_the_same_bits(actual, train_tic(GraphUse::off, run));
  // Larger images from the fifth step on: two steps and a rehearsal without, then a new recording.
  run = {};
  run.size = [](int step) { return step < 4 ? 16 : 24; };
  actual = train_tic(GraphUse::on, run);
  EXPECT_EQ(actual.replays, 2 + 3) << actual.messages;
  expect_the_same_bits(actual, train_tic(GraphUse::off, run));
}

// ---- LLaMA, with LoRA beside a frozen base ------------------------------------------------------

Outcome train_llama(GraphUse use, Recompute recompute, int64_t passes, DType type) {
  LlamaConfig config = test::small_llama_config();
  config.max_position_embeddings = 256;
  Llama model(config);
  model.initialize(5);
  LoraOptions lora;
  lora.rank = 4;
  lora.train_embedding = lora.train_norms = true;
  add_lora(model, lora, 9);
  move_to(model, kCuda);
  PatternOptions options;
  options.n_heads = config.num_attention_heads;
  options.context = 24;
  options.group_size = 8;
  options.sinks = 4;
  const AttentionPattern pattern = make_pattern("sf", options);
  model.set_pattern(pattern);
  model.set_recompute(recompute);
  model.set_compute_type(type);
  const auto ids_of = [&](int64_t T, int64_t seed) {
    std::vector<int64_t> ids(static_cast<size_t>(2 * T));
    for (size_t i = 0; i < ids.size(); ++i)
      ids[i] = static_cast<int64_t>((i * 7919 + static_cast<size_t>(seed) * 104729) % 1009) % 50;
    return Tensor::from(ids, {2, T});
  };
  const auto pass = [&](const Inputs& in) {
    const Tensor loss = model.loss(in[0], in[1], 1.0 / 48);
    backward(loss);
    return loss;
  };
  const auto next = [&](int step, int64_t i) -> Inputs {
    const Tensor ids = ids_of(25, step % 3 + i);
    return {raw::contiguous(raw::slice(ids, 1, 0, 24)), raw::contiguous(raw::slice(ids, 1, 1, 25))};
  };
  // Evaluations at other lengths and under another pattern: the tables of positions grow, and the
  // plans of attention that the recording reads are no longer among those last used.
  const auto evaluate = [&](int step) {
    if (step != 4 || passes > 1) return;
    NoGrad no_grad;
    model.set_pattern(AttentionPattern{});
    for (int64_t T = 30; T < 66; ++T) {
      const Tensor ids = ids_of(T, 1);
      EXPECT_TRUE(std::isfinite(model.loss(ids, ids, 1).item()));
    }
    model.set_pattern(pattern);
  };
  return train(model, use, passes, pass, next, evaluate);
}

void expect_llama_trains_to_the_same_bits(Recompute recompute, int64_t passes, DType type) {
  const Outcome actual = train_llama(GraphUse::on, recompute, passes, type);
  EXPECT_EQ(actual.replays, kReplays) << actual.messages;
  expect_the_same_bits(actual, train_llama(GraphUse::off, recompute, passes, type));
}

TEST_F(StepGraphs, LlamaTrainsToTheSameBits) {
  expect_llama_trains_to_the_same_bits(Recompute::none, 1, DType::f32);
}
TEST_F(StepGraphs, LlamaThatComputesAgainTrainsToTheSameBits) {
  expect_llama_trains_to_the_same_bits(Recompute::mlp, 2, DType::f32);
  expect_llama_trains_to_the_same_bits(Recompute::block, 3, DType::bf16);
}

// ---- gradients, memory --------------------------------------------------------------------------

// y = sum of w x, whose gradient is x.
Tensor product_pass(const Tensor& w, const Tensor& x) {
  const Tensor y = sum(mul(w, x));
  backward(y);
  return y;
}

TEST_F(StepGraphs, GradientsThatAreThereAreAddedTo) {
  const Tensor w = Tensor::full({3}, 2, DType::f32, kCuda);
  set_requires_grad(w, true);
  StepGraph graph(GraphUse::on, kCuda, {w},
                  [&](const Inputs& in) { return product_pass(w, in[0]); });
  const auto step = [&](float value) {
    return graph
        .run(1, [&]() -> Inputs { return {Tensor::full({3}, value, DType::f32, kCuda)}; })[0]
        .item();
  };
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(step(static_cast<float>(i)), 6 * i);
    EXPECT_EQ(grad(w).to_vector<float>(), std::vector<float>(3, static_cast<float>(i)));
    clear_grad(w);
  }
  EXPECT_EQ(graph.replays(), 2);
  step(1);
  step(2);
  EXPECT_EQ(grad(w).to_vector<float>(), std::vector<float>(3, 3)) << "1 + 2";
  EXPECT_EQ(graph.replays(), 3) << "the second was queued launch by launch";
}

TEST_F(StepGraphs, MemoryIsCountedAndGivenBack) {
  const Tensor w = Tensor::full({1000}, 2, DType::f32, kCuda);
  set_requires_grad(w, true);
  const int64_t before = memory_use(kCuda).live;
  {
    StepGraph graph(GraphUse::on, kCuda, {w},
                    [&](const Inputs& in) { return product_pass(w, in[0]); });
    int64_t live = 0;
    for (int i = 0; i < 6; ++i) {
      graph.run(1, [&]() -> Inputs { return {Tensor::full({1000}, 1, DType::f32, kCuda)}; });
      clear_grad(w);
      if (i < 2) continue;
      // The batch, its gradient and the product at least.
      EXPECT_GE(memory_use(kCuda).live, before + 3 * 4000);
      if (i > 2) {
        EXPECT_EQ(memory_use(kCuda).live, live) << "step " << i;
      }
      live = memory_use(kCuda).live;
    }
    EXPECT_GE(memory_use(kCuda).peak, live);
  }
  EXPECT_EQ(memory_use(kCuda).live, before);
}

TEST_F(StepGraphs, AStepThatAsksForOtherMemoryIsNotRecorded) {
  const Tensor w = Tensor::full({3}, 2, DType::f32, kCuda);
  set_requires_grad(w, true);
  int calls = 0;
  StepGraph graph(GraphUse::on, kCuda, {w}, [&](const Inputs& in) {
    const Tensor more = Tensor::empty({1 + 1000 * (++calls / 3)}, DType::f32, kCuda);
    return product_pass(w, in[0]);
  });
  for (int i = 0; i < 5; ++i) {
    graph.run(1, [&]() -> Inputs { return {Tensor::full({3}, 1, DType::f32, kCuda)}; });
    EXPECT_EQ(grad(w).to_vector<float>(), std::vector<float>(3, 1));
    clear_grad(w);
    const std::string message = graph.take_message();
    EXPECT_EQ(message.find("steps are not recorded as a graph: the recorded step asked for memory "
                           "otherwise than its rehearsal, at request 1 of ") == 0,
              i == 2)
        << message;
  }
  EXPECT_EQ(graph.replays(), 0);
}

// A rehearsal of storages that come and go: in the recording those that live together lie apart,
// others may share a place.
TEST_F(StepGraphs, PlacesOverlapOnlyInTime) {
  const auto memory = std::make_shared<StepMemory>(kCuda);
  std::vector<std::pair<const std::byte*, int64_t>> places;
  const auto step = [&] {
    std::vector<std::unique_ptr<Storage>> live;
    std::unique_ptr<Storage> stays;
    places.clear();
    for (int64_t i = 0; i < 60; ++i) {
      auto fresh = std::make_unique<Storage>(100 + 977 * (i * i % 11), kCuda);
      places.emplace_back(fresh->data(), fresh->bytes());
      for (const auto& other : live) {
        const bool apart = fresh->data() + fresh->bytes() <= other->data() ||
                           other->data() + other->bytes() <= fresh->data();
        EXPECT_TRUE(apart) << "storage " << i;
      }
      const bool aligned = (fresh->data() - places[0].first) % 256 == 0;
      EXPECT_TRUE(aligned || !fresh->is_placed_in(*memory)) << "storage " << i;
      if (i == 30)
        stays = std::move(fresh);
      else
        live.push_back(std::move(fresh));
      if (i % 3 == 2) live.erase(live.begin() + i % 2);
      if (i % 4 == 3) live.erase(live.begin());
    }
    return stays;
  };
  const auto in = [&](StepMemory::Phase phase) {
    const StepMemory::Scope scope(memory, phase);
    return step();
  };
  const int64_t before = memory_use(kCuda).live;
  auto stays = in(StepMemory::Phase::rehearsal);
  stays = nullptr;
  memory->lay_out();
  EXPECT_EQ(memory_use(kCuda).live, before + memory->bytes());
  int64_t sum = 0;
  for (const auto& [place, bytes] : places) sum += bytes;
  EXPECT_LT(memory->bytes(), sum / 2);
  const auto first = in(StepMemory::Phase::recording);
  memory->check_recording();
  EXPECT_TRUE(first->is_placed_in(*memory));
  const auto at = places;
  const auto second = in(StepMemory::Phase::recording);
  EXPECT_EQ(places, at) << "the same addresses again";
  // What stays shares its place with nothing that comes after it.
  for (size_t i = 31; i < places.size(); ++i)
    EXPECT_TRUE(places[i].first + places[i].second <= first->data() ||
                first->data() + first->bytes() <= places[i].first);
}

}  // namespace
}  // namespace mullion::test
