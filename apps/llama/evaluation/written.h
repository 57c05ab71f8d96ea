// Tasks in which a model writes its answer: prompts in, texts out, each graded from 0 to 1; the
// samples are logged, and a run that was stopped goes on.
#pragma once
#include <functional>

#include "apps/llama/cache_options.h"
#include "apps/llama/evaluation/sample_log.h"
#include "apps/llama/evaluation/task.h"

namespace mullion {

// Questions whose grades are averaged: "5 topics", "multi_news".
struct WrittenGroup {
  std::string name;
  std::vector<std::string> metrics = {"accuracy"};  // what a grade consists of
  int64_t max_tokens = 0;                           // of an answer
  bool chat = true;                                 // --template stands around the prompt
  bool one_line = false;                            // a newline ends an answer that has begun
};

struct WrittenQuestion {
  size_t group = 0;   // in WrittenTask::groups
  size_t number = 0;  // the task's own
  std::string prompt;
  std::vector<std::string> targets;
  std::vector<std::string> choices = {};  // what an answer may name, where the task has such
  std::string json;                       // what the log keeps of the file's row
};

struct WrittenTask {
  std::string name;  // "topic"
  std::vector<WrittenGroup> groups;
  std::vector<WrittenQuestion> questions;  // asked group after group
  // One value from 0 to 1 for each of the group's metrics.
  std::function<std::vector<double>(const WrittenQuestion&, const std::string& answer)> grade;
  // A group's entry of `results`.
  std::function<JsonObject(const WrittenGroup&, const std::vector<Mean>&)> result;
  // The prompt in `limit` tokens or fewer; absent: a prompt that is too long is an error.
  std::function<std::string(const WrittenQuestion&, const Tokenizer&, int64_t limit)> shorten;
  int64_t max_prompt = 0;  // tokens of a prompt before it is shortened; 0: what the context holds
  // More fields of the program's result, from the means of each group; those of a group that was
  // not reached are empty.
  std::function<void(JsonObject&, const std::vector<std::vector<Mean>>&)> summarize;
};
// The entry `named` of a group with n, its one metric and the metric's standard error.
JsonObject with_mean(JsonObject named, const WrittenGroup& group, const std::vector<Mean>& means);

// --model --template --kv ... --output ... `draws`: the task makes its questions up from --seed.
void add_written_options(OptionTable& table, bool draws = false);
// Runs the questions (--limit: the first of each group), greedily, and returns {results: [...]}.
// Error(usage) before any work where a prompt with its answer does not fit the model.
Outcome run_written(const Options& options, SharedModel& shared, const WrittenTask& task);

// The rows of a .jsonl file, each with where it stands.
struct JsonRow {
  nlohmann::json json;
  std::string where;  // "FILE: line 3"
};
std::vector<JsonRow> read_json_rows(const std::filesystem::path& file);

}  // namespace mullion
