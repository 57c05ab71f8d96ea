// TOML into the command line that each task would be called with, so that its own options check it.
#include "apps/llama/evaluation/suite.h"

#include <toml++/toml.h>

#include <algorithm>

#include "tensor/check.h"
#include "tensor/words.h"

namespace mullion {

namespace fs = std::filesystem;

const char kUsualSuite[] = R"(# The evaluations of `eval_llama all --data DIR`.
[wikitext]
verb = "ppl"
protocol = "rolling"
data = "DATA/text/wikitext-2/test.txt"

[passkey]
max-tokens = 4000

[openbookqa]
verb = "choice"
task = "openbookqa"
data = "DATA/commonsense/openbookqa_test.jsonl"
fewshot-data = "DATA/commonsense/openbookqa_train.jsonl"
num-fewshot = 5

[arc_easy]
verb = "choice"
task = "arc_easy"
data = "DATA/commonsense/arc-easy_test.json"

[winogrande]
verb = "choice"
task = "winogrande"
data = "DATA/commonsense/winogrande_test.json"

[copa]
verb = "choice"
task = "copa"
data = "DATA/commonsense/balanced-copa-dev-all.xml"

[topic]
data = "DATA/longctx/longchat_topics"
topics = [5, 10]

[lines]
data = "DATA/longctx/longchat_lines"
lines = [200]

[longbench]
data = "DATA/longctx/longbench"

[leval]
data = "DATA/longctx/leval"
)";

namespace {

constexpr std::string_view kData = "DATA";

class Reader {
 public:
  Reader(const std::string& file, const fs::path& data) : file_(file), data_(data) {}

  SuiteTask task(const std::string& name, const toml::node& node) const {
    const toml::table* section = node.as_table();
    CHECK_AS(Fault::usage, section, where(node), name,
             ": is no section [NAME] with the options of a task");
    CHECK_AS(Fault::usage, name != "all" && !name.empty(), where(node), "[", name,
             "]: is no name of a section; the results of all have it");
    SuiteTask task{.name = name, .verb = name, .words = {}, .absent = {}};
    for (const auto& [key, value] : *section) {
      const std::string flag(key.str());
      for (const char* of_the_call : {"model", "output", "json", "dry-run", "resume", "config"})
        CHECK_AS(Fault::usage, flag != of_the_call, where(value), name, ".", flag,
                 ": is said once for all tasks, by the call's --", flag);
      if (flag == "verb") {
        const auto verb = value.value_exact<std::string>();
        CHECK_AS(Fault::usage, verb.has_value(), where(value), name, ".verb: is no text");
        task.verb = *verb;
      } else if (const toml::value<bool>* yes = value.as_boolean()) {
        task.words.push_back((yes->get() ? "--" : "--no-") + flag);
      } else {
        task.words.push_back("--" + flag);
        task.words.push_back(word(value, name + "." + flag, task));
      }
    }
    return task;
  }

 private:
  std::string where(const toml::node& node) const {
    return concat(file_, ":", node.source().begin.line, ": ");
  }

  // One word of a command line; a list's elements stand behind commas.
  std::string word(const toml::node& node, const std::string& name, SuiteTask& task) const {
    if (const toml::array* list = node.as_array())
      return joined(*list, ",", [&](const auto& element) { return word(element, name, task); });
    if (const auto number = node.value_exact<int64_t>()) return std::to_string(*number);
    if (const auto number = node.value_exact<double>()) return concat(*number);
    const auto text = node.value_exact<std::string>();
    CHECK_AS(Fault::usage, text.has_value(), where(node), name,
             ": is no text, number, true or false, nor a list of such");
    if (!text->starts_with(kData) || (text->size() > kData.size() && (*text)[kData.size()] != '/'))
      return *text;
    const fs::path path = data_ / text->substr(std::min(text->size(), kData.size() + 1));
    if (task.absent.empty() && (data_.empty() || !fs::exists(path)))
      task.absent = data_.empty() ? fs::path(*text) : path;
    return path.string();
  }

  const std::string& file_;
  const fs::path& data_;
};

}  // namespace

std::vector<SuiteTask> read_suite(const std::string& text, const std::string& file,
                                  const fs::path& data) {
  toml::table root;
  try {
    root = toml::parse(text, file);
  } catch (const toml::parse_error& error) {
    fail(Fault::usage, file, ":", error.source().begin.line, ": ", error.description());
  }
  const Reader reader(file, data);
  // toml++ keeps tables by name; the order of a suite is that of the file.
  std::vector<std::pair<uint32_t, SuiteTask>> by_line;
  for (const auto& [name, node] : root)
    by_line.emplace_back(node.source().begin.line, reader.task(std::string(name.str()), node));
  std::sort(by_line.begin(), by_line.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  CHECK_AS(Fault::usage, !by_line.empty(), file, ": has no section of a task");
  std::vector<SuiteTask> tasks;
  for (auto& [line, task] : by_line) tasks.push_back(std::move(task));
  return tasks;
}

}  // namespace mullion
