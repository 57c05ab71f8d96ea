// Caches under a model: what they hold and what the model says then against an independent PyTorch
// rendering, and what must hold for any of them.
#include "nn/kv_cache.h"

#include <algorithm>
#include <thread>

#include "models/llama/generate.h"
#include "models/llama/model.h"
#include "nn/slot_cache.h"
#include "tests/golden.h"
#include "tests/small_llama_config.h"
#include "tests/source_dir.h"

namespace mullion {
namespace {

std::unique_ptr<Llama> golden_model() {
  const test::Golden golden("llama");
  nlohmann::json json = golden.options("untied").at("config");
  json["model_type"] = "llama";
  json["architectures"] = {"LlamaForCausalLM"};
  auto model = std::make_unique<Llama>(parse_llama_config(json, "untied"));
  for_each_parameter(*model, [&](const std::string& name, Tensor& p) {
    raw::copy_into(golden.tensor("parameters." + name), p);
  });
  return model;
}

KvCacheOptions options_of(const nlohmann::json& c) {
  KvCacheOptions o;
  o.kind = c.at("kv");
  const std::string budget = c.at("kv_budget");
  if (budget.ends_with('%'))
    o.budget_percent = std::stod(budget);
  else
    o.budget_tokens = std::stoll(budget);
  if (c.contains("kv_sinks")) o.sinks = c.at("kv_sinks").get<int64_t>();
  o.heavy = c.value("kv_heavy", 0.5);
  if (c.value("kv_positions", "") == "rolled") o.positions = KvPositions::rolled;
  if (c.value("kv_scores", "") == "max") o.scores = KvScores::max;
  return o;
}

using Kept = std::vector<std::vector<std::vector<int64_t>>>;

Kept kept_by(const KvCache& cache) {
  Kept kept(2);
  for (int64_t layer = 0; layer < 2; ++layer)
    for (int64_t head = 0; head < 2; ++head)
      kept[static_cast<size_t>(layer)].push_back(cache.kept(layer, head));
  return kept;
}

int32_t likeliest(const std::vector<float>& logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

TEST(KvCacheGolden, HoldsWhatTheOracleHoldsAndSaysWhatItSays) {
  const auto model = golden_model();
  const auto cases = read_json_file(std::string(test::source_dir) + "/tests/golden/kv_cache.json");
  for (const auto& c : cases.at("cases")) {
    SCOPED_TRACE(describe(options_of(c)));
    Generation session(*model, options_of(c));
    const auto row = session.add();
    session.feed(row, c.at("prompt").get<std::vector<int32_t>>());
    const auto ids = c.at("ids").get<std::vector<int32_t>>();
    for (size_t i = 0; i < ids.size(); ++i) {
      ASSERT_EQ(kept_by(session.cache(row)), c.at("kept")[i].get<Kept>()) << "token " << i;
      ASSERT_EQ(likeliest(session.logits(row)), ids[i]) << "token " << i;
      session.step(std::vector{Generation::Next{row, ids[i]}});
    }
    session.feed(row, c.at("later").get<std::vector<int32_t>>());
    EXPECT_EQ(kept_by(session.cache(row)), c.at("kept_after").get<Kept>());
    EXPECT_EQ(likeliest(session.logits(row)), c.at("next").get<int32_t>());
  }
}

std::vector<int32_t> some_ids(int64_t n, uint32_t seed) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i) {
    seed = seed * 1664525 + 1013904223;
    ids.push_back(static_cast<int32_t>(seed >> 8) % 40);
  }
  return ids;
}

// Logits after each of `ids`, of which the first `prompt` are one block.
std::vector<std::vector<float>> logits_of(const Llama& model, const KvCacheOptions& options,
                                          const std::vector<int32_t>& ids, size_t prompt) {
  Generation session(model, options);
  const auto row = session.add();
  session.feed(row, std::span(ids).first(prompt));
  std::vector<std::vector<float>> all{session.logits(row)};
  for (size_t i = prompt; i < ids.size(); ++i) {
    session.step(std::vector{Generation::Next{row, ids[i]}});
    all.push_back(session.logits(row));
  }
  return all;
}

KvCacheOptions bounded(const std::string& kind, int64_t tokens) {
  KvCacheOptions o;
  o.kind = kind;
  o.budget_tokens = tokens;
  return o;
}

TEST(KvCache, ABudgetThatHoldsAllGivesTheBitsOfFull) {
  const auto model = golden_model();
  const auto ids = some_ids(40, 1);
  const auto full = logits_of(*model, {}, ids, 17);
  for (const char* kind : {"local", "sink", "h2o"})
    for (const int64_t budget : {40, 41, 1000000})
      for (const KvPositions positions : {KvPositions::original, KvPositions::rolled}) {
        KvCacheOptions o = bounded(kind, budget);
        o.positions = positions;
        EXPECT_EQ(logits_of(*model, o, ids, 17), full) << describe(o);
      }
}

TEST(KvCache, H2OWithoutScoresIsLocal) {
  const auto model = golden_model();
  const auto ids = some_ids(40, 2);
  KvCacheOptions h2o = bounded("h2o", 9);
  h2o.heavy = 0;
  EXPECT_EQ(logits_of(*model, h2o, ids, 17), logits_of(*model, bounded("local", 9), ids, 17));
}

// A long prompt is fed in parts that bound the activations: the logits are those of one pass, and
// the cache has room for it at once and not for half of it more.
TEST(KvCache, ALongPromptTakesNoMoreRoomThanItself) {
  LlamaConfig config = test::small_llama_config();
  config.max_position_embeddings = 4096;
  Llama model(config);
  model.initialize(7);
  const auto ids = some_ids(1300, 6);
  Generation session(model);
  const auto row = session.add();
  session.feed(row, ids);
  const int64_t slots = 1344;  // 1,300 and up to 63 more
  EXPECT_EQ(session.cache(row).peak_bytes(), config.num_hidden_layers * 2 * slots *
                                                 config.num_key_value_heads * config.head_dim * 4);
  const NoGrad no_grad;
  const Tensor all = Tensor::from(std::vector<int64_t>(ids.begin(), ids.end()), {1, 1300});
  const Tensor x = model.hidden(all);
  const auto expected =
      model.head(raw::contiguous(raw::slice(x, 1, 1299, 1300))).to_vector<float>();
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(session.logits(row)[i], expected[i], 1e-5) << i;
}

// However a block is cut, it attends to all that is held and to itself, then one eviction.
TEST(KvCache, ABlockInPartsIsTheBlock) {
  const auto model = golden_model();
  const auto ids = some_ids(60, 3);
  for (KvCacheOptions o : {bounded("h2o", 8), bounded("sink", 8), KvCacheOptions{}})
    for (const KvPositions positions : {KvPositions::original, KvPositions::rolled}) {
      if (o.kind != "full") o.positions = positions;
      const NoGrad no_grad;
      const auto run = [&](const std::vector<int64_t>& cuts) {
        const auto cache = make_kv_cache(o, model->cache_shape());
        Tensor last;
        int64_t begin = 0;
        for (const int64_t length : {20, 1, 1, 1, 11, 1, 25}) {
          cache->begin_block(length);
          const int64_t end = begin + length;
          for (int64_t at = begin; at < end;) {
            int64_t next = end;
            for (const int64_t cut : cuts)
              if (cut > at && cut < next) next = cut;
            last = model->logits(
                Tensor::from(std::vector<int64_t>(ids.begin() + at, ids.begin() + next),
                             {1, next - at}),
                cache.get());
            at = next;
          }
          begin = end;
        }
        return std::pair{kept_by(*cache), last};
      };
      const auto [whole, logits] = run({});
      const auto [parts, same] = run({3, 4, 12, 30, 31, 36, 57});
      EXPECT_EQ(parts, whole) << describe(o);
      EXPECT_LT(test::relative_error(raw::slice(same, 1, same.dim(1) - 1, same.dim(1)),
                                     raw::slice(logits, 1, 24, 25)),
                1e-5);
    }
}

TEST(KvCache, MemoryIsTheBudgetAndOneToken) {
  const auto model = golden_model();
  const int64_t token = 2 * 2 * 2 * 8 * 4;  // layers, K and V, KV heads, width, bytes
  for (const char* kind : {"local", "sink", "h2o"}) {
    Generation session(*model, bounded(kind, 8));
    const auto row = session.add();
    session.feed(row, some_ids(50, 4));
    EXPECT_EQ(session.cache(row).bytes(), 9 * token);
    // One layer's block beside what the layers before it hold.
    EXPECT_LE(session.cache(row).peak_bytes(), 9 * token + 50 * token / 2);
    for (int i = 0; i < 30; ++i) {
      session.step(std::vector{Generation::Next{row, i}});
      EXPECT_EQ(session.cache(row).held(), 8);
      EXPECT_EQ(session.cache(row).bytes(), 9 * token);
    }
  }
}

TEST(KvCache, TheNewestAndTheSinksStay) {
  const auto model = golden_model();
  KvCacheOptions o = bounded("h2o", 6);
  o.sinks = 3;
  Generation session(*model, o);
  const auto row = session.add();
  session.feed(row, some_ids(30, 5));
  for (int i = 0; i < 40; ++i) {
    session.step(std::vector{Generation::Next{row, i % 40}});
    for (const auto& layer : kept_by(session.cache(row)))
      for (const auto& head : layer) {
        EXPECT_TRUE(
            std::equal(head.begin(), head.begin() + 3, std::vector<int64_t>{0, 1, 2}.begin()));
        EXPECT_EQ(head.back(), 30 + i);
      }
  }
}

// Positions run out; places in a cache do not.
TEST(KvCache, RolledPositionsGoOnBeyondTheContext) {
  const auto model = golden_model();  // context 128
  KvCacheOptions o = bounded("sink", 16);
  GenerateOptions how;
  how.max_tokens = 300;
  how.cache = o;
  EXPECT_EQ(generate(*model, some_ids(20, 6), how).stop, "context");
  how.cache.positions = KvPositions::rolled;
  const Generated text = generate(*model, some_ids(20, 6), how);
  EXPECT_EQ(text.stop, "length");
  EXPECT_EQ(text.ids.size(), 300u);
  how.max_tokens = 0;  // without end
  EXPECT_THROW(generate(*model, some_ids(20, 6), how), Error);
}

// A part of a prompt that is shorter than the sinks still holds them, and the most recent token.
TEST(KvCache, APartOfAShortPromptHoldsTheSinksAndOneMore) {
  const auto model = golden_model();
  const NoGrad no_grad;
  for (const auto& [options, tokens, held] :
       std::vector<std::tuple<KvCacheOptions, int64_t, int64_t>>{
           {{.kind = "sink", .budget_percent = 20}, 3, 3},
           {{.kind = "sink", .budget_percent = 20}, 20, 5},
           {{.kind = "sink", .budget_percent = 20}, 30, 6},
           {{.kind = "local", .budget_percent = 1}, 20, 1},
           {{.kind = "h2o", .budget_percent = 20, .sinks = 4}, 20, 8},
           {{.kind = "h2o", .budget_percent = 20, .sinks = 2, .heavy = 0.3}, 20, 7}}) {
    const auto cache = make_kv_cache(options, model->cache_shape());
    cache->begin_block(tokens);
    const auto ids = some_ids(tokens, 3);
    model->logits(Tensor::from(std::vector<int64_t>(ids.begin(), ids.end()), {1, tokens}),
                  cache.get());
    EXPECT_EQ(cache->held(), held) << describe(options);
  }
  EXPECT_NE(describe({.kind = "sink", .budget_percent = 20}).find("at least 5 tokens"),
            std::string::npos);
}

// Also where the product of the two is no whole number in floating point.
TEST(KvCache, TheShareHeldByScoreIsWhole) {
  for (const auto& [tokens, heavy, held] : std::vector<std::tuple<int64_t, double, int64_t>>{
           {100, 0.29, 29}, {50, 0.58, 29}, {10, 0.1, 1}, {10, 0.19, 1}, {7, 0.5, 3}}) {
    KvCacheOptions o = bounded("h2o", tokens);
    o.heavy = heavy;
    EXPECT_EQ(kv_shares(o, 10).heavy, held) << tokens << " x " << heavy;
  }
}

TEST(KvCache, BudgetsThatDoNotFitAreRefusedByName) {
  const auto refused = [](KvCacheOptions o, const std::string& what) {
    try {
      kv_shares(o, 10);
      ADD_FAILURE() << what;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
      EXPECT_EQ(error.fault(), Fault::usage);
    }
  };
  refused(bounded("h2o", 0), "--kv-budget");
  refused(bounded("h3o", 6), "--kv h3o: not one of ");
  refused(bounded("full", 5), "--kv full");
  refused(bounded("sink", 4), "--kv-sinks 4");
  KvCacheOptions o = bounded("h2o", 6);
  o.sinks = 4;
  refused(o, "--kv-sinks 4");
  o.sinks = -1;
  refused(o, "--kv-sinks");
  o = bounded("h2o", 6);
  o.heavy = 1;
  refused(o, "--kv-heavy");
  o = bounded("h2o", 6);
  o.mode = KvMode::mask;
  o.positions = KvPositions::rolled;
  refused(o, "rolled");
  o = bounded("sink", 6);
  o.mode = KvMode::mask;
  refused(o, "sinks");
  o = {.kind = "h2o", .budget_percent = 101, .mode = KvMode::mask};
  refused(o, "101%");
  refused(bounded("local", int64_t{1} << 62), "4611686018427387904");
  refused({.kind = "h2o", .budget_percent = 50, .sinks = 1, .heavy = 0}, "--kv-heavy 0");
  o.mode = KvMode::drop;  // room for what follows the prompt
  EXPECT_EQ(kv_shares(o, 1000).total(), 1010);
  EXPECT_GT(kv_shares({.kind = "local", .budget_percent = 1e300}, 1000).total(), 1000);
  // A part of a short prompt is at least one token; of a percentage that is exact, exactly that.
  o = {};
  o.kind = "local";
  o.budget_percent = 1;
  EXPECT_EQ(kv_shares(o, 10).total(), 1);
  o.budget_percent = 29;
  EXPECT_EQ(kv_shares(o, 100).total(), 29);
}

TEST(KvCache, ForgetsTheLastTokensWhereNothingIsLost) {
  const auto model = golden_model();
  const auto ids = some_ids(30, 7);
  Generation session(*model);
  const auto row = session.add();
  session.feed(row, std::span(ids).first(20));
  const auto copy = session.fork(row);
  const auto expected = session.logits(row);
  session.feed(row, std::span(ids).subspan(20));
  session.cache(row).rewind(19);
  session.step(std::vector{Generation::Next{row, ids[19]}});
  const auto again = session.logits(row);
  for (size_t i = 0; i < again.size(); ++i) EXPECT_NEAR(again[i], expected[i], 1e-4);
  EXPECT_EQ(session.logits(copy), expected);

  Generation evicting(*model, bounded("local", 8));
  const auto other = evicting.add();
  evicting.feed(other, ids);
  EXPECT_THROW(evicting.cache(other).rewind(10), Error);
}

TEST(Generation, SequencesOfManyLengthsTakeStepsTogether) {
  const auto model = golden_model();
  std::vector<std::vector<int32_t>> prompts;
  for (const int64_t n : {3, 40, 1, 17, 9, 22, 5})
    prompts.push_back(some_ids(n, static_cast<uint32_t>(n)));
  for (const KvCacheOptions& cache : {KvCacheOptions{}, bounded("h2o", 6), bounded("local", 12)}) {
    GenerateOptions how;
    how.max_tokens = 30;
    how.cache = cache;
    std::vector<std::vector<int32_t>> alone;
    for (const auto& prompt : prompts) alone.push_back(generate(*model, prompt, how).ids);
    for (const int64_t batch : {1, 3, 7}) {
      const auto together = generate(*model, prompts, how, batch);
      ASSERT_EQ(together.size(), alone.size());
      for (size_t i = 0; i < alone.size(); ++i) EXPECT_EQ(together[i].ids, alone[i]) << batch;
    }
  }
}

TEST(Generation, AConstModelIsForSeveralThreads) {
  const auto model = golden_model();
  GenerateOptions how;
  how.max_tokens = 90;
  const auto prompt = some_ids(5, 8);
  const auto expected = generate(*golden_model(), prompt, how).ids;  // grows a table of its own
  std::vector<std::vector<int32_t>> found(4);
  std::vector<std::thread> threads;
  for (auto& ids : found) threads.emplace_back([&] { ids = generate(*model, prompt, how).ids; });
  for (std::thread& thread : threads) thread.join();
  for (const auto& ids : found) EXPECT_EQ(ids, expected);
}

TEST(Generation, WhatIsNotThereIsRefused) {
  const auto model = golden_model();
  Generation session(*model);
  const auto row = session.add();
  EXPECT_THROW(session.feed(row, {}), Error);
  EXPECT_THROW(session.feed(row, some_ids(129, 9)), Error);
  session.feed(row, some_ids(128, 9));
  EXPECT_EQ(session.room(row), 0);
  EXPECT_THROW(session.step(std::vector{Generation::Next{row, 1}}), Error);
  session.remove(row);
  EXPECT_THROW(session.logits(row), Error);
  EXPECT_EQ(session.add(), row);
}

}  // namespace
}  // namespace mullion
