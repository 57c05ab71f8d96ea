// Values that no option takes, given to every option of every program as its --help lists them:
// each is refused with the name of the option, before anything is done.
#include <algorithm>
#include <sstream>

#include "tests/apps/programs.h"

namespace mullion::test {
namespace {

struct Program {
  std::string name;
  std::vector<std::string> verbs;
};
const std::vector<Program> kPrograms = {
    {"data_llama",
     {"tokenize", "info", "check", "show", "split", "lexicon", "lookups", "instructions",
      "compose"}},
    {"train_llama", {"pretrain", "sft"}},
    {"eval_llama", {"all", "choice", "leval", "lines", "longbench", "passkey", "ppl", "topic"}},
    {"chat_llama", {"chat", "complete", "serve"}},
    {"tool_llama", {"merge", "export", "quantize", "info", "compare", "bench"}},
    {"data_tic", {"prepare", "check", "pack", "stats", "cue"}},
    {"train_tic", {""}},
    {"eval_tic", {""}},
    {"tool_tic", {"info", "predict", "attention", "receptive-field", "bench", "export"}},
    {"report", {""}},
    {"reproduce", {""}}};

class OddValues : public Programs {
 protected:
  OddValues()
      : Programs({"train_llama", "eval_llama", "chat_llama", "data_llama", "tool_llama",
                  "train_tic", "eval_tic", "tool_tic", "data_tic", "report", "reproduce"}) {}

  // Of a line of --help: the last name of a flag and what stands for its value; "" where there is
  // no flag with a value.
  static std::pair<std::string, std::string> flag_in(const std::string& line) {
    if (!line.starts_with("  -")) return {};
    std::istringstream words(line);
    std::string flag, word;
    while (words >> word && word.starts_with('-')) flag = word.substr(0, word.find(','));
    const bool is_kind = word == "N" || word == "X" || word == "TEXT" || word.ends_with(",...");
    return is_kind ? std::pair(flag, word) : std::pair<std::string, std::string>();
  }
  // `values` by kind of option; `but`: flags that take them.
  void all_refuse(const std::vector<std::pair<std::string, std::string>>& values,
                  const std::string& words, const std::vector<std::string>& but = {}) const {
    for (const Program& program : kPrograms)
      for (const std::string& verb : program.verbs) {
        const std::string call = program.name + " " + verb;
        run(call + " --help > help");
        // One shell runs all calls: a line with the call and its code where it was not refused so.
        std::string script;
        std::istringstream help(contents(at("help")));
        for (std::string line; std::getline(help, line);) {
          const auto [flag, kind] = flag_in(line);
          if (flag.empty() || flag == "--config" || flag == "--preset" ||
              std::count(but.begin(), but.end(), flag))
            continue;
          for (const auto& [of, value] : values) {
            if (of != kind) continue;
            const std::string one = call + " " + flag + " " + value;
            script += one + " > out 2>&1; code=$?; { [ $code = 2 ] && grep -q 'error: .*" + words +
                      "' out; } || { echo \"$code: " + one + "\"; cat out; } >> wrong\n";
          }
        }
        run("rm -f wrong; " + script + "true");
        EXPECT_EQ(contents(at("wrong")), "(absent)") << call;
      }
  }
};

TEST_F(OddValues, NothingIsAnElementOfNoList) {
  all_refuse({{"N,...", "1,,2"}, {"X,...", ","}, {"TEXT,...", ","}}, "an element of the list");
}

TEST_F(OddValues, WhatIsNoNumberIsRefused) {
  all_refuse({{"N", "1.5"}, {"X", "nan"}, {"N,...", "x"}, {"X,...", "inf"}}, " is not a");
}

// Of these an empty text says something: no prompt, no system's turn, the default.
TEST_F(OddValues, NothingIsNoText) {
  all_refuse({{"TEXT", "''"}}, "an empty text\\|is not one of",
             {"--prompt", "--system", "--experiment", "--val-split"});
}

}  // namespace
}  // namespace mullion::test
