// LongBench (Bai et al. 2023), the English and the code sets: answers to questions on one or
// several long documents, summaries, examples to follow, synthetic tasks and lines of code.
//   eval_llama longbench -m DIR --data LongBench/data --tasks multi_news,qasper
// Prompts are LongBench's own where its dataset2prompt.json is given; else those below, which ask
// for the same in this project's words.
#include <algorithm>
#include <cmath>

#include "apps/llama/evaluation/longbench_sets.h"
#include "apps/llama/evaluation/set_files.h"
#include "apps/llama/evaluation/task.h"
#include "apps/llama/evaluation/written.h"
#include "apps/program/log.h"
#include "tensor/io/json.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

constexpr const char* kChinese[] = {"multifieldqa_zh", "dureader", "vcsum", "lsht",
                                    "passage_retrieval_zh"};

OptionTable longbench_table() {
  OptionTable table("eval_llama longbench", "Answers, summaries and code on long contexts");
  table
      .add_optional<fs::path>("longbench.data", "--data",
                              "folder with LongBench's NAME.jsonl files")
      .required();
  table.add("longbench.tasks", "--tasks", std::vector<std::string>{"en"},
            "names of sets; en or all: those of the English and the code sets that are there");
  table
      .add("longbench.max_length", "--max-length", 0,
           "tokens of a prompt, of which longer ones lose their middle; 0: what the context holds")
      .at_least(0);
  table.add_optional<fs::path>(
      "longbench.prompts", "--prompts",
      "LongBench's dataset2prompt.json (else DATA/dataset2prompt.json, else this project's words)");
  add_written_options(table);
  return table;
}

SetCollection collection() {
  SetCollection c{.name = "longbench", .sets = {}, .groups = {}};
  for (const LongbenchSet& set : longbench_sets()) c.sets.emplace_back(set.name);
  for (const char* name : {"en", "all"}) c.groups.push_back({name, [](size_t) { return true; }});
  for (const char* name : kChinese)
    c.refused[name] =
        "scores of Chinese sets count words that a dictionary finds, which this program does not "
        "have";
  return c;
}

// The prompts of the sets, in their order, and where they come from.
std::pair<std::vector<std::string>, std::string> prompts_of(
    const Options& options, const std::vector<const LongbenchSet*>& sets) {
  std::vector<std::string> prompts;
  fs::path file = options.get<fs::path>("longbench.data") / "dataset2prompt.json";
  const bool is_named = options.has("longbench.prompts");
  if (is_named) file = options.get<fs::path>("longbench.prompts");
  if (!is_named && !fs::exists(file)) {
    for (const LongbenchSet* set : sets) prompts.emplace_back(set->prompt);
    return {prompts, "this project's"};
  }
  const nlohmann::json json = read_json_file(file);
  for (const LongbenchSet* set : sets)
    prompts.push_back(get_string(json, file.string(), set->name));
  return {prompts, file.string()};
}

std::string filled(std::string prompt, const std::string& context, const std::string& input) {
  std::string out;
  for (size_t at = 0; at < prompt.size();) {
    const size_t brace = std::min(prompt.find('{', at), prompt.size());
    out += prompt.substr(at, brace - at);
    at = brace;
    if (prompt.compare(at, 9, "{context}") == 0) {
      out += context;
      at += 9;
    } else if (prompt.compare(at, 7, "{input}") == 0) {
      out += input;
      at += 7;
    } else if (at < prompt.size()) {
      out += prompt[at++];
    }
  }
  return out;
}

// Without its middle, of which both halves are written as text and so read again.
std::string without_middle(const std::string& prompt, const Tokenizer& tokenizer, int64_t limit) {
  const std::vector<int32_t> ids = tokenizer.encode(prompt, {.bos = tokenizer.add_bos()});
  if (std::ssize(ids) <= limit) return prompt;
  const auto half = static_cast<size_t>(limit / 2);
  const std::span<const int32_t> all(ids);
  return tokenizer.decode(all.first(half)) + tokenizer.decode(all.last(half));
}

double in_hundredths(double value) { return std::nearbyint(1e4 * value) / 100; }

// Means of categories whose sets are all there, and of the categories where all are.
void add_categories(JsonObject& json, const WrittenTask& task,
                    const std::vector<std::vector<Mean>>& means) {
  std::vector<std::string> categories;
  for (const LongbenchSet& set : longbench_sets())
    if (std::find(categories.begin(), categories.end(), set.category) == categories.end())
      categories.emplace_back(set.category);
  std::vector<JsonObject> rows;
  double total = 0;
  for (const std::string& category : categories) {
    double sum = 0, there = 0, wanted = 0;
    for (const LongbenchSet& set : longbench_sets()) {
      if (set.category != category) continue;
      ++wanted;
      for (size_t g = 0; g < task.groups.size(); ++g)
        if (task.groups[g].name == set.name && !means[g].empty()) {
          sum += in_hundredths(means[g][0].value);
          ++there;
        }
    }
    if (there < wanted) continue;
    rows.push_back(JsonObject().set("category", category).set("score", sum / wanted));
    total += sum / wanted;
  }
  json.set("categories", rows);
  if (rows.size() == categories.size())
    json.set("average", total / static_cast<double>(rows.size()));
}

Outcome longbench(const Options& options, SharedModel& shared) {
  const std::vector<SetFile> files =
      chosen_sets(collection(), options.get<std::vector<std::string>>("longbench.tasks"),
                  options.get<fs::path>("longbench.data"));
  std::vector<const LongbenchSet*> sets;
  for (const SetFile& file : files) sets.push_back(&longbench_sets()[file.set]);
  const auto [prompts, source] = prompts_of(options, sets);
  log_info(
      "prompts    ", source,
      source == "this project's"
          ? ": compare with published figures by --prompts LongBench/config/dataset2prompt.json"
          : "");
  WrittenTask task;
  task.name = "longbench";
  for (size_t s = 0; s < sets.size(); ++s) {
    const LongbenchSet* set = sets[s];
    task.groups.push_back({.name = set->name,
                           .metrics = {set->metric},
                           .max_tokens = set->max_tokens,
                           .chat = set->chat,
                           .one_line = set->one_line});
    for (const JsonRow& row : read_json_rows(files[s].file)) {
      const std::vector<std::string> answers = get_strings(row.json, row.where, "answers");
      CHECK_AS(Fault::bad_file, !answers.empty(), row.where, ": answers: is empty");
      if (set->name == std::string_view("passage_retrieval_en"))
        for (const std::string& answer : answers)
          CHECK_AS(Fault::bad_file, answer.find_first_of("0123456789") != std::string::npos,
                   row.where, ": answers: ", answer, " names no paragraph");
      task.questions.push_back(
          {.group = task.groups.size() - 1,
           .prompt = filled(prompts[s], get_string(row.json, row.where, "context"),
                            get_string(row.json, row.where, "input")),
           .targets = answers,
           .json = row.json.dump()});
      if (set->name == std::string_view("trec"))
        task.questions.back().choices = get_strings(row.json, row.where, "all_classes");
    }
  }
  task.grade = [&](const WrittenQuestion& q, const std::string& answer) {
    double best = 0;
    for (const std::string& right : q.targets)
      best = std::max(best, sets[q.group]->grade(answer, right, q.choices));
    return std::vector<double>{best};
  };
  task.shorten = [](const WrittenQuestion& q, const Tokenizer& tokenizer, int64_t limit) {
    return without_middle(q.prompt, tokenizer, limit);
  };
  task.max_prompt = options.get<int64_t>("longbench.max_length");
  task.result = [](const WrittenGroup& group, const std::vector<Mean>& means) {
    return JsonObject()
        .set("task", group.name)
        .set("metric", group.metrics[0])
        .set("score", in_hundredths(means[0].value))
        .set("stderr", 100 * means[0].error)
        .set("n", means[0].n);
  };
  task.summarize = [&task, source = source](JsonObject& json,
                                            const std::vector<std::vector<Mean>>& means) {
    json.set("prompts", source);
    add_categories(json, task, means);
  };
  return run_written(options, shared, task);
}

}  // namespace

EvaluationTask longbench_task() { return {longbench_table(), longbench}; }

}  // namespace mullion
