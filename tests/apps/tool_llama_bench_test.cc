// tool_llama bench on a tiny model: which tests it runs, and in which forms it tells them.
#include <algorithm>

#include "tests/apps/programs.h"
#include "tests/apps/tiny_llama.h"

namespace mullion {
namespace {

class ToolLlamaBench : public test::Programs {
 protected:
  ToolLlamaBench() : Programs({"tool_llama"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (!IsSkipped()) test::write_tiny_llama(at("base"));
  }
};

TEST_F(ToolLlamaBench, TimesEachSize) {
  const auto made =
      result("tool_llama bench -m base -p 8,16 -n 4 -d 0,32 -r 3 --threads 1 --csv t.csv --json");
  std::vector<std::string> names;
  for (const auto& row : made.at("results")) {
    names.push_back(row.at("test"));
    EXPECT_GT(row.at("tok_s").get<double>(), 0);
    EXPECT_GE(row.at("tok_s_deviation").get<double>(), 0);
    EXPECT_EQ(row.at("samples").size(), 3u);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"pp8", "pp16", "tg4", "pp8 @ d32", "pp16 @ d32",
                                             "tg4 @ d32"}));
  EXPECT_EQ(made.at("threads"), 1);
  const std::string csv = test::contents(at("t.csv"));
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 7);
  EXPECT_NE(csv.find(",tg4,32,"), std::string::npos) << csv;
}

TEST_F(ToolLlamaBench, PrintsATable) {
  const test::Answer made = run("tool_llama bench -m base -p 8 -n 0 -r 1 --threads 1 >out");
  ASSERT_EQ(made.code, 0) << made.log;
  const std::string out = test::contents(at("out"));
  for (const char* text : {"| model", "t/s |", "| cpu", " pp8 |", " ± 0.00 |"})
    EXPECT_NE(out.find(text), std::string::npos) << out;
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 3) << out;
}

// As llama.cpp names the file, whatever most of its bytes are: here those of the embedding.
TEST_F(ToolLlamaBench, NamesTheTypeOfAFile) {
  const auto label = [&](const std::string& model) -> std::string {
    return result("tool_llama bench -p 8 -n 0 -r 1 --dry-run --json -m " + model)["model"];
  };
  for (const auto& [type, name] : {std::pair{"f32", "all F32"},
                                   {"f16", "F16"},
                                   {"q4_0", "Q4_0"},
                                   {"q8_0", "Q8_0"},
                                   {"bf16", "BF16"}}) {
    ASSERT_EQ(run(concat("tool_llama quantize -m base --type ", type, " -o ", type, ".gguf")).code,
              0);
    EXPECT_TRUE(label(concat(type, ".gguf")).ends_with(concat(" ", name))) << type;
  }
  EXPECT_TRUE(label("base").ends_with(" F32")) << label("base");
}

TEST_F(ToolLlamaBench, RefusesWhatCannotBeTimed) {
  refused("tool_llama bench -m base -p 0 -n 0", 2, {"--n-prompt", "--n-gen"});
  refused("tool_llama bench -m base -p -1", 2, {"--n-prompt", "-1"});
  refused("tool_llama bench -m base -r 0", 2, {"--repetitions"});
  refused("tool_llama bench -m base -p 100 -n 0 -d 64", 2, {"164", "64"});
  refused("tool_llama bench -p 8", 2, {"--model"});
}

}  // namespace
}  // namespace mullion
