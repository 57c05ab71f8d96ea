// Runs the programs that stand beside the tests, in a folder of the test's own, as a user calls
// them.
#pragma once
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/apps/temporary_run.h"

namespace mullion::test {

// What a program left behind.
struct Answer {
  int code = -1;
  std::string last, log;  // last line of stdout; stderr
  nlohmann::json json() const { return nlohmann::json::parse(last); }
};

// The bytes of a file, "(absent)" where there is none.
inline std::string contents(const std::filesystem::path& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (!file) return "(absent)";
  std::string text;
  char block[65536];
  while (size_t n = std::fread(block, 1, sizeof(block), file)) text.append(block, n);
  std::fclose(file);
  return text;
}

class Programs : public ::testing::Test {
 protected:
  explicit Programs(std::vector<std::string> needed) : needed_(std::move(needed)) {}
  // A fixture with a SetUp of its own calls this one first and leaves where it IsSkipped().
  void SetUp() override {
    for (const std::string& name : needed_)
      if (!std::filesystem::exists(program(name)))
        GTEST_SKIP() << "needs the program " << program(name);
  }

  static std::filesystem::path program(const std::string& name) {
    return std::filesystem::read_symlink("/proc/self/exe").parent_path() / name;
  }
  std::filesystem::path at(const std::string& name) const { return folder_.path() / name; }

  // Runs a line of shell in the test's folder; programs are found by their names.
  Answer run(const std::string& command) const {
    const std::string shell = "cd '" + folder_.path().string() + "' || exit 99; PATH='" +
                              program("").string() + "':$PATH; { " + command + "; } 2>log";
    Answer answer;
    std::FILE* pipe = ::popen(shell.c_str(), "r");
    char block[4096];
    while (size_t n = std::fread(block, 1, sizeof(block), pipe)) answer.last.append(block, n);
    answer.code = ::pclose(pipe) >> 8;
    if (!answer.last.empty() && answer.last.back() == '\n') answer.last.pop_back();
    answer.last = answer.last.substr(answer.last.rfind('\n') + 1);
    answer.log = contents(at("log"));
    return answer;
  }
  // The JSON line of a command that is expected to succeed.
  nlohmann::json result(const std::string& command) const {
    const Answer answer = run(command);
    EXPECT_EQ(answer.code, 0) << command << "\n" << answer.log;
    return answer.code == 0 ? answer.json() : nlohmann::json();
  }
  // Expects an exit code and a message that holds all the given words.
  void refused(const std::string& command, int code, const std::vector<std::string>& words) const {
    const Answer answer = run(command);
    EXPECT_EQ(answer.code, code) << command << "\n" << answer.log;
    for (const std::string& word : words)
      EXPECT_NE(answer.log.find(word), std::string::npos) << command << ": " << word << "\n"
                                                          << answer.log;
  }
  // Starts `command` in the background and sends it `signal` once `path` is there; the answer is
  // the command's own.
  Answer stop(const std::string& command, const std::string& path,
              const std::string& signal) const {
    return run(command + " & p=$!; while kill -0 $p 2>/dev/null && [ ! -e " + path +
               " ]; do sleep 0.005; done; kill -" + signal + " $p; wait $p");
  }
  // The lines of a run's metrics, without what measures time and memory.
  std::vector<nlohmann::json> metrics(const std::string& run_name) const {
    std::vector<nlohmann::json> lines;
    std::string text = contents(at(run_name) / "metrics.jsonl");
    for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos;
         begin = end + 1) {
      lines.push_back(nlohmann::json::parse(text.substr(begin, end - begin)));
      for (const char* key : {"t", "tok_s", "img_s", "data_s", "mem_gib"}) lines.back().erase(key);
    }
    return lines;
  }
  // Expects two runs to have left the same bytes in `files`, and the same metrics.
  void same_runs(const std::string& a, const std::string& b,
                 const std::vector<std::string>& files) const {
    for (const std::string& name : files) {
      EXPECT_NE(contents(at(a) / name), "(absent)") << name;
      EXPECT_TRUE(contents(at(a) / name) == contents(at(b) / name)) << name;
    }
    EXPECT_EQ(metrics(a), metrics(b));
  }

  TemporaryRun folder_;

 private:
  std::vector<std::string> needed_;
};

}  // namespace mullion::test
