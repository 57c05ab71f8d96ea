// Sums of gradients over ranks while the backward pass goes on: the bits of sums after it, for
// weights that are used twice and in recomputed blocks, whatever the buckets; that they begin
// within the pass; and that a pass that is not as the first one is an error.
#include "optim/parallel/rank_sum.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "autograd/activation_checkpoint.h"
#include "autograd/engine.h"
#include "autograd/ops.h"
#include "nn/init.h"
#include "nn/linear.h"
#include "tensor/local_collective.h"

namespace mullion {
namespace {

// Four layers of which the second is used twice, the third recomputed.
struct Net {
  std::vector<Linear> layers;
  std::vector<NamedParameter> parameters;
  int64_t sent_within = 0;  // bytes of sums begun before the lowest op's backward

  Net() {
    for (int i = 0; i < 4; ++i) {
      layers.emplace_back(8, 8, true);
      for_each_parameter(layers.back(), [&](const std::string& name, Tensor& p) {
        init::normal(p, 0.5, 3, init::stream_of(name) + static_cast<uint64_t>(i));
        set_requires_grad(p, true);
        parameters.push_back({std::to_string(i) + "." + name, p});
      });
    }
  }

  // `twice`: the second layer, as in the passes of a training; otherwise once.
  Tensor loss(const Communicator& ranks, int64_t pass, bool twice = true) {
    Tensor x = Tensor::empty({4, 8});
    init::normal(x, 1, 5, static_cast<uint64_t>(pass));
    const int64_t before = ranks.sent().reduced;
    const Tensor h = layers[0](x);
    Tensor y = record("probe", raw::clone(h), {h}, [this, &ranks, before](const Tensor& g) {
      // A rank that is slow here must not change a bit either.
      if (ranks.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      sent_within = ranks.sent().reduced - before;
      return Gradients{g};
    });
    y = layers[1](tanh(y));
    if (twice) y = layers[1](tanh(y));
    y = checkpoint([this](const Tensor& in) { return layers[2](tanh(in)); }, y);
    return sum(square(layers[3](tanh(y))));
  }
};

struct Result {
  std::vector<std::vector<float>> gradients;
  std::vector<double> losses;
  bool operator==(const Result&) const = default;
};

// Two steps of `passes` passes; the gradients of the second one.
Result two_steps(Communicator& ranks, int64_t passes, RankSumOptions options, Net& net) {
  RankSum sum(ranks, net.parameters, passes, options);
  Result result;
  for (int64_t step = 0; step < 2; ++step) {
    clear_grads(net.parameters);
    std::vector<Tensor> losses;
    for (int64_t pass = ranks.rank(); pass < passes; pass += ranks.size()) {
      losses.push_back(detached(net.loss(ranks, step * passes + pass)));
      const Tensor again = net.loss(ranks, step * passes + pass);
      sum.backward(again);
    }
    sum.finish(losses);
    result.losses.clear();
    for (const Tensor& loss : losses) result.losses.push_back(loss.item());
  }
  for (const NamedParameter& p : net.parameters)
    result.gradients.push_back(grad(p.value).to_vector<float>());
  return result;
}

TEST(RankSum, OverlapChangesNoBit) {
  for (const int64_t count : {1, 2, 3})
    for (const int64_t passes : {3, 5})  // uneven: some ranks have one pass, which shows the order
      run_ranks(count, [&](Communicator& ranks) {
        Net after_net;
        const Result after = two_steps(ranks, passes, {.overlap = false}, after_net);
        ASSERT_EQ(after_net.sent_within, 0);
        for (const int64_t bytes : {64, 600, 1 << 20}) {
          Net net;
          const Result within = two_steps(ranks, passes, {.bucket_bytes = bytes}, net);
          ASSERT_EQ(within, after) << bytes;
          // The layers above the lowest one: 3 of 4, where buckets are smaller than all.
          if (count > 1 && bytes < 1 << 20) {
            ASSERT_GT(net.sent_within, 0) << bytes;
          }
        }
      });
}

// The link has work early, and little is left for it at the end.
TEST(RankSum, BucketsAreSmallAtBothEnds) {
  const std::vector<size_t> members =
      bucket_members(std::vector<int64_t>(64, int64_t{1} << 17), int64_t{8} << 20);  // 0.5 MiB each
  EXPECT_EQ(members, (std::vector<size_t>{2, 2, 4, 8, 16, 16, 8, 4, 2, 1, 1}));
  for (size_t n = 1; n < 40; ++n) {
    size_t all = 0;
    for (const size_t m : bucket_members(std::vector<int64_t>(n, 1000), 64)) all += m;
    EXPECT_EQ(all, n);
  }
}

TEST(RankSum, IsTheSumOfAllPasses) {
  run_ranks(3, [](Communicator& ranks) {
    Net net, alone;
    const Result sums = two_steps(ranks, 5, {.bucket_bytes = 64}, net);
    std::vector<double> losses;
    for (int64_t pass = 0; pass < 5; ++pass) {
      const Tensor loss = alone.loss(ranks, 5 + pass);
      losses.push_back(loss.item());
      backward(loss);
    }
    ASSERT_EQ(sums.losses, losses);
    for (size_t i = 0; i < net.parameters.size(); ++i) {
      const auto expected = grad(alone.parameters[i].value).to_vector<float>();
      for (size_t k = 0; k < expected.size(); ++k)
        ASSERT_NEAR(sums.gradients[i][k], expected[k], 1e-4) << net.parameters[i].name;
    }
  });
}

TEST(RankSum, APassThatUsesAParameterMoreOrLessOftenIsNamed) {
  for (const bool first : {true, false})
    run_ranks(1, [&](Communicator& ranks) {
      Net net;
      RankSum sum(ranks, net.parameters, 2, {.bucket_bytes = 64});
      sum.backward(net.loss(ranks, 0, first));
      try {
        sum.backward(net.loss(ranks, 1, !first));
        FAIL();
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("1.weight is used"), std::string::npos)
            << error.what();
      }
    });
}

}  // namespace
}  // namespace mullion
