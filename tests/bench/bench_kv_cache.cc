// Decoding at a long context by cache and budget: bytes of keys and values, tokens a second, and
// what H2O's scores cost at equal length. Each cache reads the same prompt; then they decode in
// turns, so that whatever else the machine does meets all of them. The gates: bytes are those of
// the budget and one token, H2O at 20 % decodes at 1.3 times the rate of a full cache at least, at
// 100 % it takes at most 10 % longer.
//   bench_kv_cache MODEL [--ctx-size 8192] [--decode 12] [--rounds 5] [--threads 2]
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "models/llama/generate.h"
#include "models/llama/load.h"
#include "tensor/check.h"
#include "tensor/parallel.h"
#include "tensor/random.h"
#include "tests/bench/limits.h"

namespace mullion {
namespace {

struct Arguments {
  std::string model;
  int64_t context = 8192, decode = 12, rounds = 5;
  int threads = 2;
};

Arguments parse(int argc, char** argv) {
  CHECK_AS(Fault::usage, argc >= 2, "usage: bench_kv_cache MODEL [--ctx-size N] [--decode N] ",
           "[--rounds N] [--threads N]");
  Arguments a;
  a.model = argv[1];
  for (int i = 2; i < argc; ++i) {
    const std::string flag = argv[i];
    CHECK_AS(Fault::usage, i + 1 < argc, flag, ": needs a value");
    const int64_t value = std::stoll(argv[++i]);
    if (flag == "--ctx-size")
      a.context = value;
    else if (flag == "--decode")
      a.decode = value;
    else if (flag == "--rounds")
      a.rounds = value;
    else if (flag == "--threads")
      a.threads = static_cast<int>(value);
    else
      fail(Fault::usage, flag, ": unknown");
  }
  CHECK_AS(Fault::usage, a.decode > 0 && a.rounds > 0 && a.context > (a.rounds + 1) * a.decode,
           "bench_kv_cache: a context of ", a.context, " for ", a.rounds + 1, " rounds of ",
           a.decode, " tokens");
  return a;
}

struct Arm {
  std::string name;
  int64_t percent;
  std::unique_ptr<Generation> session = {};
  double prompt_seconds = 0;
  std::vector<double> rates = {};

  double median() const {
    std::vector<double> sorted = rates;
    std::sort(sorted.begin(), sorted.end());
    return sorted[sorted.size() / 2];
  }
  int64_t bytes() const { return session->cache(0).bytes(); }
};

int run(const Arguments& a) {
  set_num_threads(a.threads);
  LlamaLoadOptions load;
  load.context = a.context;
  const auto model = load_llama(open_llama_checkpoint(a.model), load);
  const KvCacheShape shape = model->cache_shape();
  const int64_t token_bytes = 2 * shape.layers * shape.kv_heads * shape.head_dim * 4;
  // A round that is not timed finds cold caches.
  const int64_t prompt = a.context - (a.rounds + 1) * a.decode;
  std::vector<int32_t> ids(static_cast<size_t>(a.context));
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int32_t>(mix_bits(i, 2) % static_cast<uint64_t>(model->vocabulary()));
  std::vector<Arm> arms;
  arms.push_back({"full", 100});
  for (const int64_t percent : {100, 50, 20, 10}) arms.push_back({"h2o", percent});
  for (Arm& arm : arms) {
    KvCacheOptions cache;
    if (arm.name == "h2o") {
      cache.kind = "h2o";
      cache.budget_percent = static_cast<double>(arm.percent);
    }
    arm.session = std::make_unique<Generation>(*model, cache);
    const double begin = bench::seconds();
    arm.session->feed(arm.session->add(), std::span(ids).first(static_cast<size_t>(prompt)));
    arm.prompt_seconds = bench::seconds() - begin;
  }
  for (int64_t round = 0; round <= a.rounds; ++round)
    for (Arm& arm : arms) {
      const double begin = bench::seconds();
      for (int64_t i = 0; i < a.decode; ++i) {
        const auto at = static_cast<size_t>(prompt + round * a.decode + i);
        const Generation::Next next{0, ids[at]};
        arm.session->step(std::span(&next, 1));
      }
      const double rate = static_cast<double>(a.decode) / (bench::seconds() - begin);
      if (round > 0) arm.rates.push_back(rate);
    }
  std::printf("%-12s %12s %14s %12s %12s\n", "cache", "tokens held", "bytes", "prompt, s", "tok/s");
  bool holds = true;
  for (const Arm& arm : arms) {
    const int64_t held = arm.session->cache(0).held();
    std::printf("%-5s %3lld %%  %12lld %14lld %12.1f %12.2f\n", arm.name.c_str(),
                static_cast<long long>(arm.percent), static_cast<long long>(held),
                static_cast<long long>(arm.bytes()), arm.prompt_seconds, arm.median());
    std::printf(
        "{\"kv\": \"%s\", \"budget\": \"%lld%%\", \"held\": %lld, \"bytes\": %lld, "
        "\"prompt_s\": %.3f, \"tok_s\": %.3f}\n",
        arm.name.c_str(), static_cast<long long>(arm.percent), static_cast<long long>(held),
        static_cast<long long>(arm.bytes()), arm.prompt_seconds, arm.median());
    if (arm.name == "h2o") holds = holds && arm.bytes() == (held + 1) * token_bytes;
  }
  const double full = arms[0].median(), fifth = arms[3].median() / full,
               scores = full / arms[1].median() - 1;
  std::printf("bytes are those of the budget and one token: %s\n", holds ? "yes" : "NO");
  std::printf("h2o at 20 %%: %.2f times the rate of full (gate 1.3): %s\n", fifth,
              fifth >= 1.3 ? "yes" : "NO");
  std::printf("scores at equal length: %.1f %% (gate 10): %s\n", 100 * scores,
              scores <= 0.1 ? "yes" : "NO");
  return holds && fifth >= 1.3 && scores <= 0.1 ? 0 : 1;
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) {
  try {
    return mullion::run(mullion::parse(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  }
}
