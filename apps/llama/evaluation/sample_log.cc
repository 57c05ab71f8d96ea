// Lines of samples as they come, of one rank or all, and the results file made of them at the end.
#include "apps/llama/evaluation/sample_log.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <sstream>

#include "apps/program/log.h"
#include "apps/run/ranks.h"
#include "tensor/io/file.h"
#include "tensor/io/file_ops.h"
#include "tensor/io/json.h"
#include "tensor/io/sha256.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

}  // namespace

std::string results_time() {
  const auto time = std::chrono::system_clock::now();
  const std::time_t now = std::chrono::system_clock::to_time_t(time);
  const auto since = std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch());
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H-%M-%S", &utc);
  char fraction[16];
  std::snprintf(fraction, sizeof fraction, ".%06d", static_cast<int>(since.count() % 1000000));
  return concat(text, fraction);
}

void add_evaluation_options(OptionTable& table) {
  table
      .add("eval.limit", "--limit", 0,
           "the first so many samples (of each set, where there are several); 0: all")
      .at_least(0);
  table.add("eval.batch_size", "-b,--batch-size", 4, "samples at a time; changes no result")
      .at_least(1)
      .free_on_resume();
  table.add("eval.show", "--show", 0, "print what the model is given of the first so many")
      .at_least(0)
      .free_on_resume();
  table
      .add_optional<fs::path>("eval.output", "--output",
                              "folder for samples and results in lm-eval's layout; a stopped run "
                              "goes on from what is there")
      .free_on_resume();
  table
      .add_optional<std::string>("eval.name", "--name",
                                 "of its files in --output, so that calls of one verb stand beside "
                                 "each other there (unset: the task's)")
      .only_with("eval.output")
      .free_on_resume();
  table.add("eval.log_samples", "--log-samples", true, "keep the samples in --output")
      .only_with("eval.output")
      .free_on_resume();
}

std::string sanitized_name(const std::string& name) {
  std::string text;
  bool in_run = false;
  for (const char c : name) {
    const bool is_special = std::strchr("\"<>:/|\\?*[]", c) != nullptr && c != 0;
    if (is_special && !in_run) text += "__";
    if (!is_special) text += c;
    in_run = is_special;
  }
  return text;
}

Mean mean_of(const std::vector<double>& values) {
  Mean mean;
  mean.n = std::ssize(values);
  if (values.empty()) return mean;
  for (const double x : values) mean.value += x;
  mean.value /= static_cast<double>(mean.n);
  double squares = 0;
  for (const double x : values) squares += (x - mean.value) * (x - mean.value);
  if (mean.n > 1)
    mean.error = std::sqrt(squares / static_cast<double>(mean.n - 1) / static_cast<double>(mean.n));
  return mean;
}

SampleLog::SampleLog(const Options& options, const std::string& task)
    : options_(options),
      task_(options.has("eval.name") ? options.get<std::string>("eval.name") : task),
      file_name_(sanitized_name(task_)),
      model_(options.get<std::string>("model.path")) {
  if (!options.has("eval.output")) return;
  folder_ = options.get<fs::path>("eval.output") / sanitized_name(model_);
  CHECK_AS(Fault::usage, !file_name_.empty(), "--name: an empty name");
  std::string lines;
  if (is_first_rank()) {
    make_folders(folder_);
    part_.emplace(folder_ / concat("samples_", file_name_, ".part.jsonl"), options, task);
    samples_ = part_->found();
    for (const nlohmann::json& sample : samples_) lines += sample.dump() + "\n";
  }
  lines = text_of_first_rank(lines);
  std::istringstream found(is_first_rank() ? "" : lines);
  for (std::string line; std::getline(found, line);) samples_.push_back(parse_json(line, "sample"));
  if (part_ && !samples_.empty())
    log_info(part_->file().string(), ": goes on after ", samples_.size(), " samples");
}

void SampleLog::take(const std::string& line) {
  if (part_) part_->add(line);
  samples_.push_back(parse_json(line, "sample"));
}

void SampleLog::add(const JsonObject& sample) { take(sample.text()); }

void SampleLog::add_of_ranks(const std::vector<JsonObject>& mine) {
  std::string lines;
  for (const JsonObject& sample : mine) lines += sample.text() + "\n";
  for (const std::string& text : texts_of_ranks(lines)) {
    std::istringstream all(text);
    for (std::string line; std::getline(all, line);) take(line);
  }
}

SampleTurn turn_of_rank(int64_t at, int64_t count,
                        const std::function<int64_t(int64_t)>& batch_end) {
  SampleTurn turn{at, at};
  for (int64_t r = 0; r <= rank(); ++r) {
    turn.begin = turn.end;
    turn.end = turn.begin < count ? batch_end(turn.begin) : turn.begin;
  }
  return turn;
}

void SampleLog::tell_stopped(int64_t count) const {
  log_warning("stopped after ", samples_.size(), " of ", count, " samples; ",
              part_ ? "the same command goes on from " + part_->file().string()
                    : "without --output nothing is kept of them");
}

fs::path SampleLog::finish(const std::vector<std::pair<std::string, JsonObject>>& results,
                           int64_t few_shots) {
  if (!part_) return finish_with("", "");
  const std::string time = results_time();
  JsonObject by_name, counts, shots, versions, hashes, better, configs, groups;
  std::string all;
  for (const nlohmann::json& sample : samples_) all += sample.value("doc_hash", "");
  for (const auto& [name, result] : results) {
    by_name.set(name, result);
    const auto count =
        parse_json(result.text(), name).value("sample_len", static_cast<int64_t>(samples_.size()));
    counts.set(name, JsonObject().set("original", count).set("effective", count));
    shots.set(name, few_shots);
    versions.set(name, 1);
    hashes.set(name, sha256_hex(all));
    better.set(name, JsonObject().set("acc", true));
    configs.set(name, JsonObject().set("task", task_).set("num_fewshot", few_shots));
    groups.set(name, std::vector<std::string>{});
  }
  JsonObject longctx, config;
  for (const auto& [key, value] : options_.identity()) longctx.set(key, value);
  config.set("model", "mullion").set("model_args", "pretrained=" + model_);
  config.set("batch_size", options_.get<int64_t>("eval.batch_size"));
  config.set("device", options_.device());
  const auto limit = options_.get<int64_t>("eval.limit");
  limit > 0 ? config.set("limit", limit) : config.set_null("limit");
  config.set("bootstrap_iters", 0).set("random_seed", options_.seed()).set("longctx", longctx);
  JsonObject file;
  file.set("results", by_name).set("group_subtasks", groups).set("configs", configs);
  file.set("versions", versions).set("n-shot", shots).set("higher_is_better", better);
  file.set("n-samples", counts).set("config", config).set("git_hash", MULLION_VERSION);
  file.set(
      "date",
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count());
  file.set("model_name", model_).set("model_name_sanitized", sanitized_name(model_));
  file.set_null("chat_template").set_null("chat_template_sha").set("task_hashes", hashes);
  if (options_.get<bool>("eval.log_samples")) {
    std::string lines;
    for (const nlohmann::json& sample : samples_) lines += sample.dump() + "\n";
    write_whole_file(folder_ / concat("samples_", file_name_, "_", time, ".jsonl"), lines);
  }
  return finish_with(file.text() + "\n", time);
}

fs::path SampleLog::finish_with(const std::string& results, const std::string& time) {
  if (!options_.has("eval.output")) return {};
  const fs::path path = folder_ / concat("results_", time, ".json");
  if (part_) {
    write_whole_file(path, results);
    part_->remove();
  }
  return text_of_first_rank(path.string());
}

}  // namespace mullion
