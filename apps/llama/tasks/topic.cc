// LongChat's topic retrieval (Li et al. 2023): a record of conversations on several topics, and the
// question for the first of them.
//   eval_llama topic -m DIR --data longchat_topics --topics 5,10
#include <algorithm>
#include <cctype>

#include "apps/llama/evaluation/task.h"
#include "apps/llama/evaluation/written.h"
#include "tensor/io/json.h"

namespace mullion {
namespace {

OptionTable topic_table() {
  OptionTable table("eval_llama topic", "Retrieves the first topic of a long conversation");
  table
      .add_optional<std::filesystem::path>("topic.data", "--data",
                                           "folder with N_topics.jsonl of LongChat")
      .required();
  table.add("topic.topics", "--topics", std::vector<int64_t>{5, 10}, "numbers of topics, a list")
      .at_least(1);
  table.add("topic.max_tokens", "--max-tokens", 50, "tokens of an answer at most").at_least(1);
  add_written_options(table);
  return table;
}

// Lower case, without punctuation, a "the" in front and repeated spaces.
std::string plain(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::ispunct(byte)) continue;
    if (!std::isspace(byte))
      out += static_cast<char>(std::tolower(byte));
    else if (!out.empty() && out.back() != ' ')
      out += ' ';
  }
  while (out.ends_with(' ')) out.pop_back();
  return out.starts_with("the ") ? out.substr(4) : out;
}

Outcome topic(const Options& options, SharedModel& shared) {
  WrittenTask task;
  task.name = "topic";
  for (const int64_t topics : options.get<std::vector<int64_t>>("topic.topics")) {
    task.groups.push_back(
        {.name = std::to_string(topics), .max_tokens = options.get<int64_t>("topic.max_tokens")});
    for (const JsonRow& row : read_json_rows(options.get<std::filesystem::path>("topic.data") /
                                             concat(topics, "_topics.jsonl"))) {
      const auto names = get_strings(row.json, row.where, "topics");
      CHECK_AS(Fault::bad_file, !names.empty() && !plain(names[0]).empty(), row.where,
               ": topics: there is no first one");
      task.questions.push_back({.group = task.groups.size() - 1,
                                .prompt = get_string(row.json, row.where, "prompt"),
                                .targets = {names[0]},
                                .json = row.json.dump()});
    }
  }
  task.grade = [](const WrittenQuestion& q, const std::string& answer) {
    const bool found = plain(answer).find(plain(q.targets[0])) != std::string::npos;
    return std::vector<double>{found ? 1.0 : 0.0};
  };
  task.result = [](const WrittenGroup& group, const std::vector<Mean>& means) {
    return with_mean(JsonObject().set("topics", std::stoll(group.name)), group, means);
  };
  return run_written(options, shared, task);
}

}  // namespace

EvaluationTask topic_task() { return {topic_table(), topic}; }

}  // namespace mullion
