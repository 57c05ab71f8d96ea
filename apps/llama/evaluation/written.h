// Tasks in which a model writes its answer: prompts in, texts out, each graded from 0 to 1; the
// samples are logged, and a run that was stopped goes on.
#pragma once
#include <functional>

#include "apps/llama/cache_options.h"
#include "apps/llama/evaluation/sample_log.h"
#include "apps/llama/model_options.h"
#include "apps/program/main.h"

namespace mullion {

struct WrittenQuestion {
  std::string group;  // samples are averaged by it, e.g. "5 topics"
  std::string prompt;
  std::vector<std::string> targets;
  std::string json;  // the row of the file
};

struct WrittenTask {
  std::string name, metric;  // "topic", "accuracy"
  std::vector<WrittenQuestion> questions;
  int64_t max_tokens = 0;
  std::function<double(const WrittenQuestion&, const std::string& answer)> grade;
  // The entry of `results` of a group: what names it; n and the metric follow.
  std::function<JsonObject(const std::string& group)> group_json;
};

// --model --template --kv ... --output ...
void add_written_options(OptionTable& table);
// Runs the questions, greedily, and returns {results: [...]}. Error(usage) before any work where a
// prompt with its answer does not fit the model.
Outcome run_written(const Options& options, const WrittenTask& task);

// The rows of a .jsonl file, each with where it stands.
struct JsonRow {
  nlohmann::json json;
  std::string where;  // "FILE: line 3"
};
std::vector<JsonRow> read_json_rows(const std::filesystem::path& file);

}  // namespace mullion
