// A LLaMA whose ranks have a part of each sequence, against one process: losses, gradients, and the
// bytes that travel against the plan.
#include "nn/context_parallel.h"

#include <mutex>

#include "autograd/ops.h"
#include "tensor/check.h"
#include "tensor/local_collective.h"
#include "tests/packed_rows.h"
#include "tests/small_llama_config.h"

namespace mullion {
namespace {

struct Sequences {
  LlamaConfig config = test::small_llama_config();
  TextBatch batch = {};
  AttentionPattern pattern = {};
  Recompute recompute = Recompute::none;

  int64_t line() const {  // tokens that are divided
    return batch.documents.empty() ? batch.tokens : batch.rows * batch.tokens;
  }
  AttentionPattern packed_pattern() const {
    AttentionPattern p = pattern;
    p.documents = batch.documents;
    return p;
  }
};

TextBatch made_batch(int64_t rows, int64_t tokens, std::vector<int64_t> documents = {}) {
  TextBatch batch;
  batch.rows = rows, batch.tokens = tokens, batch.documents = std::move(documents);
  int64_t next = 7;
  for (int64_t i = 0; i < rows * tokens; ++i) {
    next = (next * 31 + 11) % 49;
    batch.ids.push_back(next);
  }
  for (int64_t i = 0; i < rows * tokens; ++i) {
    const bool learned = (i + 1) % tokens != 0 && i % 3 != 0;
    batch.targets.push_back(learned ? batch.ids[static_cast<size_t>(i) + 1] : -100);
    batch.learned += learned;
  }
  return batch;
}

// One pass forward and backward; context null: of the whole.
test::LossAndGradients pass_of(const Sequences& s, std::shared_ptr<ContextParallel> context) {
  Llama model(s.config);
  model.initialize(3);
  set_trainable(model, [](const std::string&) { return true; });
  model.set_recompute(s.recompute);
  model.set_context_parallel(std::move(context));
  return test::loss_and_gradients(model, {s.batch}, s.pattern);
}

struct Summed {
  test::LossAndGradients all;               // of the ranks together
  std::vector<int64_t> exchanged, planned;  // bytes of each rank; of a layer's forward
};

Summed summed_over_ranks(const Sequences& s, int64_t ranks) {
  Summed sum;
  sum.exchanged.resize(static_cast<size_t>(ranks));
  sum.planned.resize(static_cast<size_t>(ranks));
  std::mutex mutex;
  run_ranks(ranks, [&](Communicator& given) {
    const std::shared_ptr<Communicator> group(&given, [](Communicator*) {});
    const auto context = std::make_shared<ContextParallel>(group);
    const test::LossAndGradients mine = pass_of(s, context);
    const ContextPart& part =
        context
            ->pass(s.packed_pattern(),
                   {s.line(), s.config.num_attention_heads, s.config.num_key_value_heads})
            ->part();
    const int64_t sequences = s.batch.documents.empty() ? s.batch.rows : 1;
    const std::lock_guard lock(mutex);
    const auto me = static_cast<size_t>(given.rank());
    sum.exchanged[me] = given.sent().exchanged;
    sum.planned[me] = sequences * key_bytes(part.sent_rows() + part.received_rows(),
                                            s.config.head_dim, sizeof(float));
    sum.all.loss += mine.loss;
    for (const auto& [name, gradient] : mine.gradients) {
      Tensor& total = sum.all.gradients[name];
      total = total.defined() ? add(total, gradient) : gradient;
    }
  });
  return sum;
}

void check(const Sequences& s, const std::string& what) {
  SCOPED_TRACE(what);
  const test::LossAndGradients want = pass_of(s, nullptr);
  for (const int64_t ranks : {2, 4}) {
    SCOPED_TRACE(concat(ranks, " ranks"));
    const Summed got = summed_over_ranks(s, ranks);
    EXPECT_NEAR(got.all.loss, want.loss, 1e-6 * want.loss);
    for (const auto& [name, gradient] : want.gradients)
      EXPECT_LT(test::largest_difference(got.all.gradients.at(name), gradient), 3e-6) << name;
    // Forward: what is sent; backward: what was received goes back. Recomputed blocks exchange
    // once more.
    if (s.recompute != Recompute::block) {
      for (size_t rank = 0; rank < got.planned.size(); ++rank)
        EXPECT_EQ(got.exchanged[rank], s.config.num_hidden_layers * got.planned[rank]);
    }
  }
}

AttentionPattern pattern_of(const std::string& name, int64_t tokens, int64_t group) {
  return make_pattern(name, {.n_heads = 4, .context = tokens, .group_size = group});
}

TEST(ContextParallel, LossAndGradientsAreThoseOfOneProcess) {
  for (const char* name : {"full", "s2", "sf", "sf-leaky", "fixed", "strided", "random"})
    check({.batch = made_batch(2, 64), .pattern = pattern_of(name, 64, 16)}, name);
}

TEST(ContextParallel, AnyLengthGroupAndKeyHeads) {
  for (const char* name : {"full", "s2", "sf"})
    for (const auto& [tokens, group] : {std::pair<int64_t, int64_t>{61, 16}, {47, 40}, {7, 4}})
      for (const int64_t kv_heads : {1, 4}) {
        Sequences s{.batch = made_batch(2, tokens), .pattern = pattern_of(name, tokens, group)};
        s.config.num_key_value_heads = kv_heads;
        check(s, concat(name, " of ", tokens, " tokens, ", kv_heads, " key heads"));
      }
}

TEST(ContextParallel, PackedDocuments) {
  for (const char* name : {"full", "s2", "sf"})
    check({.batch = made_batch(2, 30, {0, 4, 25, 30, 31, 49}), .pattern = pattern_of(name, 64, 8)},
          name);
}

TEST(ContextParallel, Recomputation) {
  for (const Recompute how : {Recompute::mlp, Recompute::block})
    check({.batch = made_batch(1, 64), .pattern = pattern_of("sf", 64, 16), .recompute = how},
          "sf");
}

// With the group a divisor of the part: 2 (G / 2) shifted key heads D elements, and the sinks.
TEST(ContextParallel, BytesOfSfAreTheFormula) {
  Sequences s{.batch = made_batch(1, 64), .pattern = pattern_of("sf", 64, 16)};
  s.config.num_key_value_heads = 4;
  const Summed got = summed_over_ranks(s, 2);
  const int64_t half = 2 * (16 / 2) * 1 * s.config.head_dim * 4;
  const int64_t sinks = 2 * 4 * 4 * s.config.head_dim * 4;
  // Rank 0 sends them forward, rank 1 their gradients backward.
  for (const int64_t bytes : got.exchanged)
    EXPECT_EQ(bytes, s.config.num_hidden_layers * (half + sinks));
}

TEST(ContextParallel, TwoRunsHaveTheSameBits) {
  const Sequences s{.batch = made_batch(2, 61), .pattern = pattern_of("sf", 61, 16)};
  const Summed a = summed_over_ranks(s, 2), b = summed_over_ranks(s, 2);
  EXPECT_EQ(a.all.loss, b.all.loss);
  for (const auto& [name, gradient] : a.all.gradients)
    EXPECT_EQ(gradient.to_vector<float>(), b.all.gradients.at(name).to_vector<float>()) << name;
}

// What the comparison can see: keys that do not come.
TEST(ContextParallel, ARankThatSeesItsOwnKeysAloneIsAnotherModel) {
  Sequences s{.batch = made_batch(1, 64), .pattern = pattern_of("sf", 64, 16)};
  const double want = pass_of(s, nullptr).loss;
  s.batch.documents = {0, 32};
  EXPECT_GT(std::abs(summed_over_ranks(s, 2).all.loss - want), 1e-4 * want);
}

TEST(ContextParallel, TooShortASequenceIsRefused) {
  const Sequences s{.batch = made_batch(1, 3), .pattern = pattern_of("full", 64, 16)};
  EXPECT_THROW(summed_over_ranks(s, 4), Error);
}

}  // namespace
}  // namespace mullion
