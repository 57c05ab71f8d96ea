// What a run folder tells: how it was started, its settings, the curves of metrics.jsonl, and the
// results of evaluations that were put into RUN/eval as JSON.
#pragma once
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace mullion {

using Curve = std::vector<std::pair<double, double>>;  // step, value

// A field of a result: its text, and its number where it is one.
struct Field {
  std::string text;
  double number = 0;
  bool is_number = false;
};
using Record = std::map<std::string, Field>;

struct RunRecord {
  std::filesystem::path folder;
  std::string name;  // of the folder
  std::string program, command, machine, config_text;
  std::map<std::string, std::string> config;  // "section.key" -> value as TOML writes it
  std::map<std::string, Curve> train, val;    // the numbers of each line, by key
  int64_t skipped = 0;                        // steps left out because they were not finite
  // Lines of eval/*.json, the file's stem under "eval"; {"results": [...]} is one line each.
  std::vector<Record> evaluations;

  bool of_images() const { return train.contains("img_s"); }
  const Curve& curve(const std::string& key) const;  // of `train`, or empty
};

// Error(bad_file) where the folder has no metrics.jsonl, or a file in it cannot be read.
RunRecord read_run(const std::filesystem::path& folder);

// RUN/eval/*.json.
std::set<std::filesystem::path> evaluation_files(const std::filesystem::path& run);

// Keys of `config` whose values are not the same in all runs, but for names and places.
std::vector<std::string> differing_settings(const std::vector<RunRecord>& runs);

}  // namespace mullion
