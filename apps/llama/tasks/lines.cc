// LongChat's line retrieval (Li et al. 2023): many lines with a number each, and the question for
// one of them. The first number of the answer counts.
//   eval_llama lines -m DIR --data longchat_lines --lines 200
#include <algorithm>

#include "apps/llama/evaluation/task.h"
#include "apps/llama/evaluation/written.h"
#include "tensor/io/json.h"

namespace mullion {
namespace {

constexpr char kDigits[] = "0123456789";

OptionTable lines_table() {
  OptionTable table("eval_llama lines", "Retrieves the number of one of many lines");
  table
      .add_optional<std::filesystem::path>("lines.data", "--data",
                                           "folder with N_lines.jsonl of LongChat")
      .required();
  table
      .add("lines.lines", "--lines,--topics", std::vector<int64_t>{200}, "numbers of lines, a list")
      .at_least(1);
  table.add("lines.max_tokens", "--max-tokens", 32, "tokens of an answer at most").at_least(1);
  add_written_options(table);
  return table;
}

std::string first_number(const std::string& text) {
  const size_t begin = std::min(text.find_first_of(kDigits), text.size());
  const size_t end = std::min(text.find_first_not_of(kDigits, begin), text.size());
  const size_t zeros = std::min(text.find_first_not_of('0', begin), end);
  return zeros == end && begin < end ? "0" : text.substr(zeros, end - zeros);
}

Outcome lines(const Options& options, SharedModel& shared) {
  WrittenTask task;
  task.name = "lines";
  for (const int64_t count : options.get<std::vector<int64_t>>("lines.lines")) {
    task.groups.push_back(
        {.name = std::to_string(count), .max_tokens = options.get<int64_t>("lines.max_tokens")});
    for (const JsonRow& row : read_json_rows(options.get<std::filesystem::path>("lines.data") /
                                             concat(count, "_lines.jsonl"))) {
      const uint64_t number = get_uint(row.json, row.where, "expected_number", UINT32_MAX);
      task.questions.push_back({.group = task.groups.size() - 1,
                                .prompt = get_string(row.json, row.where, "prompt"),
                                .targets = {std::to_string(number)},
                                .json = row.json.dump()});
    }
  }
  task.grade = [](const WrittenQuestion& q, const std::string& answer) {
    return std::vector<double>{first_number(answer) == q.targets[0] ? 1.0 : 0.0};
  };
  task.result = [](const WrittenGroup& group, const std::vector<Mean>& means) {
    return with_mean(JsonObject().set("lines", std::stoll(group.name)), group, means);
  };
  return run_written(options, shared, task);
}

}  // namespace

EvaluationTask lines_task() { return {lines_table(), lines}; }

}  // namespace mullion
