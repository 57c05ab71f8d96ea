// A list of evaluations for one model (eval_llama all): TOML, a section a task with the options of
// its verb.
//
//   [openbookqa]
//   verb = "choice"             # where the section's name is none
//   task = "openbookqa"
//   data = "DATA/commonsense/openbookqa_test.jsonl"
//   num-fewshot = 5
//
// DATA is the folder of --data. Keys are the verb's flags.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace mullion {

struct SuiteTask {
  std::string name, verb;
  std::vector<std::string> words;  // flags of the verb
  std::filesystem::path absent;    // the first path below DATA that is not there
};

// What is run where no file says otherwise.
extern const char kUsualSuite[];

// `text` is TOML, `file` names it in errors. `data` may be empty: then all that is below DATA is
// absent. Error(usage) with the line for what is no section, key or value of a suite.
std::vector<SuiteTask> read_suite(const std::string& text, const std::string& file,
                                  const std::filesystem::path& data);

}  // namespace mullion
