// Several evaluations of one model, which is opened once:
//   eval_llama all -m DIR --data DATA --output DIR --tasks openbookqa,topic
// A task that is complete is kept when the run is stopped, or when another one fails.
#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "apps/llama/evaluation/sample_log.h"
#include "apps/llama/evaluation/suite.h"
#include "apps/llama/evaluation/task.h"
#include "apps/options/flag_words.h"
#include "apps/options/nearest.h"
#include "apps/program/command_text.h"
#include "apps/program/log.h"
#include "apps/program/signals.h"
#include "apps/run/ranks.h"
#include "tensor/io/file.h"
#include "tensor/io/json.h"
#include "tensor/words.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

OptionTable all_table() {
  OptionTable table("eval_llama all", "Runs a list of evaluations on one model");
  add_model_options(table);
  table
      .add_optional<fs::path>("all.suite", "--suite",
                              "TOML, a section a task with the options of its verb (unset: those "
                              "that --print-suite shows)")
      .free_on_resume();
  table.add("all.print_suite", "--print-suite", false, "print the suite, and no more")
      .free_on_resume();
  table.add_optional<fs::path>("all.data", "--data", "folder that DATA stands for in the suite")
      .free_on_resume();
  table
      .add_optional<std::vector<std::string>>(
          "all.tasks", "--tasks", "sections of the suite (unset: those whose data is there)")
      .free_on_resume();
  add_evaluation_options(table);
  add_rank_options(table);
  table.add_common();
  return table;
}

struct Chosen {
  SuiteTask task;
  EvaluationTask run;
  Options options;
  std::string identity = {};
};

const EvaluationTask& verb_of(const std::vector<EvaluationTask>& verbs, const SuiteTask& task) {
  std::vector<std::string> names;
  for (const EvaluationTask& verb : verbs) {
    const std::string& program = verb.table.program();
    names.push_back(program.substr(program.find(' ') + 1));
    if (names.back() == task.verb && task.verb != "all") return verb;
  }
  std::erase(names, "all");
  fail(Fault::usage, "suite: ", task.name, ": verb ", task.verb, " is not one of ", joined(names));
}

// Options that every task shares, as the call has them, where the suite says nothing else.
Options options_of(const Options& call, const EvaluationTask& run, const SuiteTask& task) {
  try {
    ParsedOptions parsed = parse_options(run.table, task.words);
    CHECK_AS(Fault::usage, parsed.options.has_value(), "an option that asks for no evaluation");
    Options own = std::move(*parsed.options);
    for (const std::string& key : call.given()) {
      // Where there are no samples, this program keeps the answer itself.
      if (key.starts_with("all.") || key == "eval.output" || key == "eval.log_samples" ||
          key == "eval.name") {
        if (run.table.find(key)) own.set(key, call.value(key), call.source(key));
        continue;
      }
      if (!run.table.find(key))
        log_info(task.name, ": ", shown_flag(*call.table().find(key)), " has no meaning in ",
                 task.verb);
      else if (own.is_default(key))
        own.set(key, call.value(key), call.source(key));
    }
    if (run.table.find("eval.name") && own.is_default("eval.name"))
      own.set("eval.name", OptionValue(task.name), "section");
    own.json = call.json;
    own.arguments = task.words;
    return own;
  } catch (const Error& error) {
    throw Error(concat("suite: ", task.name, ": ", error.what()), error.fault(), error.hint());
  }
}

std::vector<SuiteTask> suite_of(const Options& options) {
  const fs::path data = options.has("all.data") ? options.get<fs::path>("all.data") : fs::path();
  CHECK_AS(Fault::bad_file, data.empty() || fs::is_directory(data), data.string(),
           ": is no folder");
  if (!options.has("all.suite")) return read_suite(kUsualSuite, "the usual suite", data);
  const auto file = options.get<fs::path>("all.suite");
  return read_suite(read_whole_file(file, 1 << 20), file.string(), data);
}

std::vector<Chosen> chosen_tasks(const Options& options) {
  const std::vector<SuiteTask> suite = suite_of(options);
  const auto named = options.has("all.tasks") ? options.get<std::vector<std::string>>("all.tasks")
                                              : std::vector<std::string>();
  std::vector<std::string> known;
  for (const SuiteTask& task : suite) known.push_back(task.name);
  for (const std::string& name : named)
    if (std::find(known.begin(), known.end(), name) == known.end())
      throw Error(concat("--tasks: ", name, " is no section of the suite"), Fault::usage,
                  did_you_mean(name, known, "--print-suite shows all"));
  const std::vector<EvaluationTask> verbs = evaluation_tasks();
  std::vector<Chosen> chosen;
  for (const SuiteTask& task : suite) {
    const bool is_named = std::find(named.begin(), named.end(), task.name) != named.end();
    if (!named.empty() && !is_named) continue;
    if (!task.absent.empty()) {
      CHECK_AS(Fault::usage, !is_named, "--tasks: ", task.name, ": ", task.absent.string(),
               options.has("all.data") ? " is not there" : " needs --data");
      log_info(task.name, ": left out, ", task.absent.string(), " is not there");
      continue;
    }
    const EvaluationTask& run = verb_of(verbs, task);
    chosen.push_back({task, run, options_of(options, run, task)});
  }
  std::string names;
  for (const Chosen& c : chosen) names += c.task.name + " ";
  require_same_on_all_ranks({{"tasks", names}});
  for (Chosen& c : chosen) c.identity = text_of_first_rank(run_identity(c.options, c.task.name));
  CHECK_AS(Fault::usage, !chosen.empty(), "no task whose data is there; --data DIR says where");
  return chosen;
}

// lm-eval's rows of an answer whose task writes no such file: a number a length, or one.
json rows_of(const std::string& name, const json& answer) {
  json rows = json::object();
  const auto add = [&](const std::string& key, const json& entry) {
    json row = {{"alias", key}};
    for (const char* metric :
         {"accuracy", "perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"})
      if (entry.contains(metric)) row[concat(metric, ",none")] = entry.at(metric);
    for (const char* count : {"trials", "tokens"})
      if (entry.contains(count) && !row.contains("sample_len")) row["sample_len"] = entry.at(count);
    rows[key] = row;
  };
  for (const auto& [list, length] : {std::pair{"results", "ctx_size"}, {"lengths", "tokens"}})
    if (answer.contains(list)) {
      for (const json& entry : answer.at(list))
        add(concat(name, "_", entry.at(length).dump()), entry);
      return rows;
    }
  add(name, answer);
  return rows;
}

// The fields of lm-eval's file that are by task.
constexpr const char* kByTask[] = {"results", "group_subtasks",   "configs",   "versions",
                                   "n-shot",  "higher_is_better", "n-samples", "task_hashes"};

// The files of all tasks as one; a name that comes twice has the section's in front.
json merged(const std::vector<json>& done, const Options& options) {
  json file;
  for (const json& task : done) {
    const json& own = task.at("file");
    for (const auto& [key, value] : own.items())
      if (!file.contains(key) &&
          std::find(std::begin(kByTask), std::end(kByTask), key) == std::end(kByTask))
        file[key] = value;
    for (const auto& [name, row] : own.at("results").items()) {
      const bool is_new = !file.contains("results") || !file.at("results").contains(name);
      const std::string key = is_new ? name : concat(task.at("task").get<std::string>(), "/", name);
      for (const char* part : kByTask)
        if (own.contains(part) && own.at(part).contains(name)) file[part][key] = own.at(part)[name];
      file["configs"][key]["longctx"] = task.at("identity");
    }
  }
  json config = json::object();
  for (const auto& [key, value] : options.identity()) config[key] = value;
  file["config"]["longctx"] = config;
  file["config"].erase("limit");  // a task's own: configs has it
  return file;
}

// A line a metric, as lm-eval prints them.
std::string table_of(const json& results) {
  std::string text = "| task | metric | value | error | n |\n|---|---|---|---|---|\n";
  for (const auto& [name, row] : results.items())
    for (const auto& [key, value] : row.items()) {
      const size_t end = key.find(",none");
      const std::string metric = key.substr(0, end);
      if (end == key.npos || metric.ends_with("_stderr") || !value.is_number()) continue;
      const json error = row.value(metric + "_stderr,none", json());
      text += concat("| ", name, " | ", metric, " | ", value.get<double>(), " | ",
                     error.is_number() ? concat(error.get<double>()) : "", " | ",
                     row.contains("sample_len") ? row.at("sample_len").dump() : "", " |\n");
    }
  return text;
}

// The call that would make this evaluation alone.
std::string call_of(const Chosen& chosen) {
  std::vector<std::string> words = {chosen.task.verb};
  const Options& options = chosen.options;
  for (const std::string& key : options.given()) {
    const std::vector<std::string> said =
        flag_words(*options.table().find(key), options.value(key));
    words.insert(words.end(), said.begin(), said.end());
  }
  return command_text("eval_llama", words);
}

json run_task(const Chosen& chosen, SharedModel& model, int& code) {
  log_info("== ", chosen.task.name, ": ", call_of(chosen));
  const auto begin = std::chrono::steady_clock::now();
  const Outcome outcome = chosen.run.run(chosen.options, model);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  code = outcome.exit_code;
  if (code != 0) return {};
  const json answer = parse_json(outcome.result.text(), chosen.task.name);
  json done = {{"task", chosen.task.name},
               {"verb", chosen.task.verb},
               {"identity", chosen.identity},
               {"seconds", time.count()},
               {"answer", answer}};
  if (!answer.contains("file")) {
    done["file"] = {{"results", rows_of(chosen.task.name, answer)}};
  } else {
    const fs::path file = answer.at("file").get<std::string>();
    const auto read = [&] { return is_first_rank() ? read_json_file(file).dump() : ""; };
    done["file"] = parse_json(text_of_first_rank(read()), file.string());
    if (is_first_rank()) fs::remove(file);  // all tasks are in one file when they are done
  }
  return done;
}

Outcome all(const Options& options, SharedModel& model) {
  if (options.get<bool>("all.print_suite")) {
    const std::string text = options.has("all.suite")
                                 ? read_whole_file(options.get<fs::path>("all.suite"), 1 << 20)
                                 : std::string(kUsualSuite);
    print_text(options, text);
    return JsonObject().set("suite", text);
  }
  const std::vector<Chosen> chosen = chosen_tasks(options);
  if (options.dry_run) {
    std::vector<std::string> calls;
    for (const Chosen& c : chosen) {
      calls.push_back(call_of(c));
      print_result(options, c.task.name + ": " + calls.back());
    }
    return JsonObject().set("tasks", calls);
  }
  CHECK_AS(Fault::usage, options.has("eval.output"),
           "all: --output is needed, where finished "
           "tasks and the results are kept");
  SampleLog log(options, "all");
  for (const json& sample : log.samples())
    CHECK_AS(Fault::usage,
             std::any_of(chosen.begin(), chosen.end(),
                         [&](const Chosen& c) { return c.identity == sample.at("identity"); }),
             "all: ", sample.at("task").get<std::string>(), " is complete in ", log.part().string(),
             ", but is not among these tasks, or has other options now; choose it as well, or "
             "remove that file");
  catch_stop_signals();
  std::vector<json> done;
  std::vector<std::string> failed;
  int failure = 0;
  for (const Chosen& c : chosen) {
    const auto kept =
        std::find_if(log.samples().begin(), log.samples().end(),
                     [&](const json& sample) { return sample.at("identity") == c.identity; });
    if (kept != log.samples().end()) {
      log_info("== ", c.task.name, ": is complete");
      done.push_back(*kept);
      continue;
    }
    if (any_rank(stop_requested())) break;
    int code = 0;
    try {
      json result = run_task(c, model, code);
      if (code != 0) break;
      JsonObject line;
      for (const auto& [key, value] : result.items()) line.put(key, value.dump());
      log.add(line);
      done.push_back(std::move(result));
    } catch (const Error& error) {
      if (ranks()) throw;  // the others may be in the midst of the task
      // The others go on; what is complete is kept.
      log_warning(c.task.name, ": ", error.what(),
                  error.hint().empty() ? "" : concat("; try: ", error.hint()));
      failed.push_back(c.task.name);
      if (failure == 0) failure = static_cast<int>(error.fault());
    }
  }
  const json file = merged(done, options);
  const json results = file.value("results", json::object());
  print_text(options, table_of(results));
  const bool complete = done.size() == chosen.size();
  std::vector<JsonObject> tasks;
  for (const json& task : done)
    tasks.push_back(JsonObject()
                        .set("task", task.at("task").get<std::string>())
                        .set("verb", task.at("verb").get<std::string>())
                        .set("seconds", task.at("seconds").get<double>())
                        .put("answer", task.at("answer").dump()));
  JsonObject answer;
  answer.put("results", results.dump()).set("tasks", tasks).set("failed", failed);
  answer.set("complete", complete);
  if (any_rank(stop_requested())) return {answer, kExitStopped};
  if (!complete) return {answer, failure};
  const fs::path written = log.finish_with(file.dump(2) + "\n", results_time());
  return answer.set("file", written.string());
}

}  // namespace

EvaluationTask all_task() { return {all_table(), all}; }

}  // namespace mullion
