// What ranks take of memory: what is said of a step is what its metrics measure; and what the ranks
// of one machine cannot take together is refused.
#include <sys/sysinfo.h>

#include <nlohmann/json.hpp>

#include "tensor/io/json.h"
#include "tests/apps/rank_programs.h"

namespace mullion {
namespace {

class RankMemory : public test::RankPrograms {
 protected:
  RankMemory() : RankPrograms({"train_llama"}) {}
  const std::string train_ =
      "train_llama pretrain --data train.bin --ctx-size 16 --output runs --threads 1 -b 1 "
      "--attn full ";

  // Blocks whose weights take about so many MiB each.
  static LlamaConfig config_of(int64_t layers, int64_t hidden, double mib) {
    LlamaConfig config = test::tiny_config();
    config.num_hidden_layers = layers;
    config.hidden_size = hidden;
    config.num_attention_heads = config.num_key_value_heads = hidden / 64;
    config.head_dim = 64;
    const double of_mlp = mib * 0x1p20 / 4 - 4.0 * static_cast<double>(hidden * hidden);
    config.intermediate_size =
        static_cast<int64_t>(of_mlp / 3 / static_cast<double>(hidden)) / 64 * 64;
    return config;
  }
  void write_config(const std::string& name, int64_t layers, int64_t hidden, double mib) const {
    write_json_file(at("base/" + name + ".json"), to_json(config_of(layers, hidden, mib)));
  }
  // MiB: the most of the steps of a run.
  double measured(const std::string& run) const {
    std::istringstream lines(test::contents(at(run + "/metrics.jsonl")));
    double peak = 0;
    for (std::string text; std::getline(lines, text);)
      peak = nlohmann::json::parse(text)["mem_gib"].get<double>() * 1024;
    return peak;
  }
};

// Activations are small here.
TEST_F(RankMemory, SpreadWeightsTakeWhatIsSaid) {
  for (const double mib : {6.0, 18.0}) {
    const std::string size = std::to_string(static_cast<int>(mib));
    write_config(size, 3, 256, mib);
    test::write_tiny_llama(at("base-" + size), config_of(3, 256, mib));
    const std::string all = "--model-config base/" + size + ".json ";
    const std::string pairs = "--model base-" + size + " --lora-rank 2 ";
    int number = 0;
    for (const std::string& flags :
         {all + "--grad-accum-steps 2 ", all + "--grad-accum-steps 4 --no-overlap ",
          pairs + "--grad-accum-steps 2 "}) {
      const std::string training = train_ + "--shard full --grad-checkpointing " + flags;
      const auto plan = run(training + "--max-steps 3 --dry-run --ranks 2 --json");
      ASSERT_EQ(plan.code, 0) << plan.log;
      const double said = 1024 * plan.json()["spread_gib"].get<double>();
      const std::string name = size + "-" + std::to_string(number++);
      started(2, training + "--max-steps 3 --save-every 0 --name " + name);
      EXPECT_NEAR(measured("runs/" + name), said, 0.1 * said) << mib << " MiB, " << flags;
    }
  }
}

// Of a process, and of each of two ranks.
TEST_F(RankMemory, AProcessHoldsWhatIsSaid) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer holds memory of its own";
#endif
  write_config("held", 4, 256, 8);
  const std::string training =
      train_ + "--model-config base/held.json --grad-accum-steps 2 --max-steps 3 --save-every 0 ";
  // Runs it and keeps the last that its kernel said of its most resident pages.
  const std::string held =
      "sh -c '\"$0\" \"$@\" & while held=$(grep VmHWM /proc/$!/status); do echo $held >held$RANK; "
      "sleep 0.05; done; wait $!' ";
  const auto mib = [&](const std::string& file) {  // "VmHWM: 123 kB"
    return std::stod(test::contents(at(file)).substr(6)) / 1024;
  };
  for (const std::string shard : {"none", "full --grad-checkpointing"}) {
    const std::string flags = "--shard " + shard;
    const auto plan = run(training + flags + " --dry-run --ranks 2 --json");
    ASSERT_EQ(plan.code, 0) << plan.log;
    const double said = 1024 * plan.json()["memory_gib"].get<double>();
    started(2, held + training + flags + " --name " + shard.substr(0, 4));
    for (const char* rank : {"held0", "held1"}) EXPECT_NEAR(mib(rank), said, 0.1 * said) << flags;
  }
  const auto plan = run(training + "--dry-run --json");
  const double said = 1024 * plan.json()["memory_gib"].get<double>();
  ASSERT_EQ(run(held + training + "--name alone").code, 0);
  EXPECT_NEAR(mib("held"), said, 0.1 * said);
}

// Each rank would fit alone.
TEST_F(RankMemory, RanksOfOneMachineAddUp) {
  struct sysinfo machine = {};
  ASSERT_EQ(sysinfo(&machine), 0);
  const double there = static_cast<double>(machine.totalram + machine.totalswap) * machine.mem_unit;
  constexpr double kWhole = 4;  // weights, gradients, two moments
  write_config("large", 40, 1024, 0.6 * there / 0x1p20 / kWhole / 40);
  const std::string large = train_ + "--model-config base/large.json --max-steps 2 ";
  const auto alone = run(large + "--grad-accum-steps 2 --json --dry-run --ranks 1");
  ASSERT_EQ(alone.code, 0) << alone.log;
  EXPECT_LT(alone.json()["memory_gib"].get<double>() * 0x1p30, there);
  // Were it not refused, a bound of 4 GB would end it.
  const Ranks ranks = start(2, "prlimit --as=4000000000 " + large + "--grad-accum-steps 2");
  EXPECT_EQ(ranks.codes[0], 6) << ranks.logs[0];
  EXPECT_NE(ranks.logs[0].find(" GiB for its 2 ranks"), std::string::npos) << ranks.logs[0];
}

}  // namespace
}  // namespace mullion
