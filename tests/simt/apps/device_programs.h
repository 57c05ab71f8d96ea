// Runs the programs that stand beside the tests, which compute on the emulated device, and compares
// what they find there with the CPU.
#pragma once
#include <algorithm>
#include <cmath>

#include "tests/apps/programs.h"

namespace mullion::test {

// Sums of a device and of the CPU differ in their order alone.
constexpr double kF32 = 1e-5;

class DevicePrograms : public Programs {
 protected:
  using Programs::Programs;

  // A training run on "cpu" or "cuda" that ends well and leaves out no step.
  void trains(const std::string& command, const std::string& device) const {
    const Answer answer = run(command + " --device " + device);
    ASSERT_EQ(answer.code, 0) << command << answer.log;
    EXPECT_EQ(answer.json()["skipped_steps"], 0);
    EXPECT_EQ(answer.log.find("cuda:0 emulated device") != std::string::npos, device == "cuda")
        << answer.log;
  }
  // Whether the run's log says that a step was recorded.
  bool records(const std::string& run_name) const {
    return contents(at(run_name) / "train.log").find("a step is recorded as a graph of") !=
           std::string::npos;
  }
  static void expect_near(double actual, double expected, double relative,
                          const std::string& what) {
    EXPECT_LE(std::abs(actual - expected), relative * std::abs(expected))
        << what << ": " << actual << ", expected " << expected;
  }
  // Losses and norms of two runs, line by line.
  void expect_the_same_run(const std::string& actual, const std::string& expected,
                           double relative = kF32) const {
    const auto a = metrics(actual), e = metrics(expected);
    ASSERT_EQ(a.size(), e.size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_FALSE(a[i].contains("skipped"));
      EXPECT_EQ(a[i]["split"], e[i]["split"]);
      for (const char* key : {"loss", "grad_norm", "perplexity", "top1"}) {
        if (!e[i].contains(key)) continue;
        expect_near(a[i][key], e[i][key], relative, actual + ": " + key + " of " + e[i].dump());
      }
    }
  }
  // The largest relative distance of two runs' losses.
  double loss_distance(const std::string& a, const std::string& b) const {
    const auto x = metrics(a), y = metrics(b);
    EXPECT_EQ(x.size(), y.size());
    double most = 0;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      const double loss = y[i]["loss"];
      most = std::max(most, std::abs(x[i]["loss"].get<double>() - loss) / loss);
    }
    return most;
  }
};

}  // namespace mullion::test
