#include "apps/llama/evaluation/sample_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "apps/llama/model_options.h"
#include "apps/program/log.h"
#include "tensor/io/file.h"
#include "tensor/io/json.h"
#include "tensor/io/sha256.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
constexpr uint64_t kMostLogBytes = uint64_t{4} << 30;

// Sizes and times of the files at a path, "" where there is none: a run must not go on with another
// model or other questions that came to the same place.
std::string state_of(const fs::path& path) {
  std::error_code none;
  std::vector<fs::path> files;
  if (fs::is_regular_file(path, none)) files.push_back(path);
  if (fs::is_directory(path, none))
    for (const auto& entry : fs::recursive_directory_iterator(path, none))
      if (entry.is_regular_file(none)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::string state;
  for (const fs::path& file : files) {
    const auto time = fs::last_write_time(file, none).time_since_epoch().count();
    state += concat(file.filename().string(), " ", fs::file_size(file, none), " ", time, "; ");
  }
  return state;
}

// What decides the samples, a line in front of them.
std::string identity_line(const Options& options, const std::string& task) {
  JsonObject values, files;
  for (const auto& [key, value] : options.identity()) values.set(key, value);
  for (const auto& [key, path] : options.identity_paths()) files.set(key, state_of(path));
  const ModelPlace place = find_model(options.get<fs::path>("model.path"));
  files.set("base", place.base.string() + ": " + state_of(place.base));
  files.set("adapter", place.adapter.string() + ": " + state_of(place.adapter));
  return JsonObject().set("task", task).set("options", values).set("files", files).text();
}

std::string time_text() {
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

void append_line(const fs::path& path, const std::string& line) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  CHECK_AS(Fault::disk, fd >= 0, path.string(), ": ", std::strerror(errno));
  const ssize_t written = ::write(fd, line.data(), line.size());
  const bool is_whole = written == std::ssize(line) && ::fsync(fd) == 0;
  // A short write has set no error: the disk is full.
  const std::string why =
      std::strerror(written >= 0 && written < std::ssize(line) ? ENOSPC : errno);
  ::close(fd);
  CHECK_AS(Fault::disk, is_whole, path.string(), ": cannot be written: ", why);
}

}  // namespace

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
    : options_(options), task_(task), model_(options.get<std::string>("model.path")) {
  if (!options.has("eval.output")) return;
  folder_ = options.get<fs::path>("eval.output") / sanitized_name(model_);
  part_ = folder_ / concat("samples_", task, ".part.jsonl");
  std::error_code error;
  fs::create_directories(folder_, error);
  CHECK_AS(Fault::disk, !error, folder_.string(), ": ", error.message());
  const std::string identity = identity_line(options, task);
  if (!fs::exists(part_)) {
    write_whole_file(part_, identity + "\n");
    return;
  }
  const std::string text = read_whole_file(part_, kMostLogBytes);
  const size_t whole = text.rfind('\n');
  size_t begin = text.find('\n');
  CHECK_AS(Fault::usage, begin != text.npos && text.substr(0, begin) == identity, part_.string(),
           ": a run of other options, or on files that have changed, was stopped there; remove it, "
           "or choose another --output");
  for (++begin; begin <= whole; begin = text.find('\n', begin) + 1)
    samples_.push_back(parse_json(
        std::string_view(text).substr(begin, text.find('\n', begin) - begin), part_.string()));
  if (whole + 1 < text.size()) {  // a sample in whose middle it was stopped
    fs::resize_file(part_, whole + 1, error);
    CHECK_AS(Fault::disk, !error, part_.string(), ": ", error.message());
  }
  log_info(part_.string(), ": goes on after ", samples_.size(), " samples");
}

void SampleLog::add(const JsonObject& sample) {
  const std::string line = sample.text();
  if (!part_.empty()) append_line(part_, line + "\n");
  samples_.push_back(parse_json(line, "sample"));
}

fs::path SampleLog::finish(const std::vector<std::pair<std::string, JsonObject>>& results,
                           int64_t few_shots) {
  if (part_.empty()) return {};
  const std::string time = time_text();
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
  const fs::path path = folder_ / concat("results_", time, ".json");
  write_whole_file(path, file.text() + "\n");
  if (options_.get<bool>("eval.log_samples")) {
    std::string lines;
    for (const nlohmann::json& sample : samples_) lines += sample.dump() + "\n";
    write_whole_file(folder_ / concat("samples_", task_, "_", time, ".jsonl"), lines);
  }
  fs::remove(part_);
  return path;
}

}  // namespace mullion
