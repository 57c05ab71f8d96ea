// Programs as several ranks on this machine, started with the variables that torchrun sets; there
// are a tiny LLaMA, base, and its token files train.bin and val.bin.
#pragma once
#include <string>
#include <vector>

#include "tests/apps/programs.h"
#include "tests/apps/tiny_llama.h"

namespace mullion::test {

class RankPrograms : public Programs {
 protected:
  using Programs::Programs;
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    write_tiny_llama(at("base"));
    write_lexicon_tokens(at("train.bin"), 40);
    write_lexicon_tokens(at("val.bin"), 6, kTinyContext, 1000);
  }

  struct Ranks {
    std::vector<int> codes;         // by rank
    std::vector<std::string> logs;  // stderr
    std::string out;                // last line of rank 0's stdout
    nlohmann::json json() const { return nlohmann::json::parse(out); }
  };

  // `before`: shell that runs while they do; the process of rank R is $pR. `each`: more arguments
  // of rank R, "$R" in it is its number.
  Ranks start(int count, const std::string& command, const std::string& before = "",
              const std::string& each = "") const {
    static int runs = 0;
    const std::string n = std::to_string(count);
    const std::string id = "test-" + std::to_string(::getpid()) + "-" + std::to_string(++runs);
    std::string shell = "export OMP_NUM_THREADS=1 WORLD_SIZE=" + n + " LOCAL_WORLD_SIZE=" + n +
                        " MASTER_ADDR=localhost TORCHELASTIC_RUN_ID=" + id + "; ";
    for (int r = 0; r < count; ++r) {
      const std::string R = std::to_string(r);
      shell += "R=" + R + "; RANK=" + R + " LOCAL_RANK=" + R + " timeout 120 " + command + " " +
               each + " >out" + R + " 2>log" + R + " & p" + R + "=$!; ";
    }
    if (!before.empty()) shell += before + "; ";
    for (int r = 0; r < count; ++r) {
      const std::string R = std::to_string(r);
      shell += "wait $p" + R + "; echo $? >code" + R + "; ";
    }
    run(shell + "true");
    Ranks ranks;
    for (int r = 0; r < count; ++r) {
      const std::string R = std::to_string(r);
      ranks.codes.push_back(std::atoi(contents(at("code" + R)).c_str()));
      ranks.logs.push_back(contents(at("log" + R)));
    }
    std::string out = contents(at("out0"));
    while (!out.empty() && out.back() == '\n') out.pop_back();
    ranks.out = out.substr(out.rfind('\n') + 1);
    return ranks;
  }
  // All of them succeed.
  Ranks started(int count, const std::string& command) const {
    const Ranks ranks = start(count, command);
    for (int r = 0; r < count; ++r)
      EXPECT_EQ(ranks.codes[static_cast<size_t>(r)], 0) << ranks.logs[static_cast<size_t>(r)];
    return ranks;
  }

  // "loss" of each line of a run's metrics, of one split.
  std::vector<double> losses(const std::string& run, const char* split = "train") const {
    std::istringstream lines(contents(at(run + "/metrics.jsonl")));
    std::vector<double> result;
    for (std::string line; std::getline(lines, line);) {
      const auto json = nlohmann::json::parse(line);
      if (json["split"] == split) result.push_back(json["loss"]);
    }
    return result;
  }
  static void expect_near(const std::vector<double>& a, const std::vector<double>& b,
                          double relative) {
    ASSERT_EQ(a.size(), b.size());
    ASSERT_FALSE(a.empty());
    for (size_t i = 0; i < a.size(); ++i)
      EXPECT_NEAR(a[i], b[i], relative * std::abs(a[i])) << "step " << i;
  }
};

}  // namespace mullion::test
