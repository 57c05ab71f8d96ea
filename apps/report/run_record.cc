// Each file of the folder by a reader of its own; metrics are read line by line.
#include "apps/report/run_record.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "apps/program/log.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/json.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
constexpr uint64_t kMaxText = uint64_t{1} << 20, kMaxMetrics = uint64_t{1} << 30;

std::string text_of(const fs::path& path) {
  return fs::exists(path) ? read_whole_file(path, kMaxText) : "";
}

// The keys and values of the TOML that our programs write: one a line, comments behind.
std::map<std::string, std::string> settings_of(const std::string& toml) {
  std::map<std::string, std::string> out;
  std::istringstream lines(toml);
  std::string line, section;
  while (std::getline(lines, line)) {
    if (line.starts_with('[')) {
      section = line.substr(1, line.find(']') - 1) + ".";
      continue;
    }
    const size_t equals = line.find(" = ");
    if (equals == std::string::npos || line.starts_with('#')) continue;
    std::string value = line.substr(equals + 3);
    value = value.substr(0, value.find("  #"));
    out[section + line.substr(0, equals)] = value;
  }
  return out;
}

std::string machine_of(const json& env, const std::string& file) {
  return concat(get_string_or(env, file, "processor", "unknown processor"), ", ",
                get_uint_or(env, file, "cores", 1 << 20, 0), " cores, Mullion ",
                get_string_or(env, file, "version", "?"));
}

void read_line(RunRecord& run, const json& line, const std::string& where) {
  const double step = get_number(line, where, "step");
  const std::string split = get_string_or(line, where, "split", "train");
  const bool train = split == "train";
  CHECK_AS(Fault::bad_file, train || split == "val", where, ": split: ", split,
           " is neither train nor val");
  if (get_bool_or(line, where, "skipped", false)) ++run.skipped;
  for (const auto& [key, value] : line.items()) {
    // Values that are not finite are written as text, and leave a gap in the curve.
    if (key == "step" || key == "t" || !value.is_number()) continue;
    (train ? run.train : run.val)[key].emplace_back(step, value.get<double>());
  }
}

void read_metrics(RunRecord& run) {
  const fs::path file = run.folder / "metrics.jsonl";
  CHECK_AS(Fault::bad_file, fs::exists(file), run.folder.string(),
           ": not a run folder: it has no metrics.jsonl");
  std::istringstream lines(read_whole_file(file, kMaxMetrics));
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    // A run may be writing its last line just now.
    if (lines.eof()) break;
    const std::string where = concat(file.string(), ":", number);
    const json parsed = parse_json(line, where);
    CHECK_AS(Fault::bad_file, parsed.is_object(), where, ": not an object");
    read_line(run, parsed, where);
  }
  if (run.train.empty() && run.val.empty()) log_warning(file.string(), ": has no step yet");
}

Field field_of(const json& value) {
  Field field;
  field.is_number = value.is_number();
  if (field.is_number) field.number = value.get<double>();
  field.text = value.is_string() ? value.get<std::string>() : value.dump();
  return field;
}

void add_record(RunRecord& run, const std::string& stem, const json& object) {
  Record record;
  for (const auto& [key, value] : object.items()) {
    if (!value.is_structured()) record[key] = field_of(value);
  }
  record["eval"] = {stem, 0, false};
  run.evaluations.push_back(std::move(record));
}

void read_evaluations(RunRecord& run) {
  for (const fs::path& file : evaluation_files(run.folder)) {
    const json root = read_json_file(file);
    const json* results = root.is_object() ? find_field(root, file.string(), "results") : nullptr;
    std::vector<json> items = {root};
    if (results && results->is_array()) items.assign(results->begin(), results->end());
    if (results && results->is_object()) {  // lm-eval's layout: tasks by name
      items.clear();
      for (const auto& [task, result] : results->items()) {
        items.push_back(result);
        if (result.is_object()) items.back()["task"] = task;
      }
    }
    int64_t left_out = 0;
    for (const json& item : items) {
      if (!item.is_object())
        ++left_out;
      else if (item.value("complete", json(true)) == false)
        log_warning(file.string(), ": an evaluation was stopped before its end: left out");
      else
        add_record(run, file.stem().string(), item);
    }
    if (left_out > 0 || items.empty())
      log_warning(file.string(), ": ", items.size(), " results, ", left_out,
                  " of them no objects, which are left out");
  }
}

}  // namespace

const Curve& RunRecord::curve(const std::string& key) const {
  static const Curve kNone;
  const auto found = train.find(key);
  return found == train.end() ? kNone : found->second;
}

std::set<fs::path> evaluation_files(const fs::path& run) {
  std::set<fs::path> files;
  if (!fs::is_directory(run / "eval")) return files;
  for (const auto& entry : fs::directory_iterator(run / "eval"))
    if (entry.path().extension() == ".json") files.insert(entry.path());
  return files;
}

RunRecord read_run(const fs::path& folder) {
  RunRecord run;
  run.folder = folder;
  run.name = (folder.filename().empty() ? folder.parent_path() : folder).filename().string();
  read_metrics(run);
  run.command = text_of(folder / "command.txt");
  run.config_text = text_of(folder / "config.toml");
  run.config = settings_of(run.config_text);
  if (fs::exists(folder / "env.json")) {
    const std::string file = (folder / "env.json").string();
    const json env = read_json_file(file);
    run.machine = machine_of(env, file);
    run.program = get_string_or(env, file, "program", "");
  }
  read_evaluations(run);
  return run;
}

std::vector<std::string> differing_settings(const std::vector<RunRecord>& runs) {
  std::set<std::string> keys, differing;
  for (const RunRecord& run : runs) {
    for (const auto& [key, value] : run.config) keys.insert(key);
  }
  const auto value = [](const RunRecord& run, const std::string& key) {
    const auto found = run.config.find(key);
    return found == run.config.end() ? std::string() : found->second;
  };
  for (const std::string& key : keys) {
    if (key.ends_with(".name") && key != "model.name" && key != "optim.name") continue;
    if (key.ends_with(".output")) continue;
    for (const RunRecord& run : runs) {
      if (value(run, key) != value(runs[0], key)) differing.insert(key);
    }
  }
  return {differing.begin(), differing.end()};
}

}  // namespace mullion
