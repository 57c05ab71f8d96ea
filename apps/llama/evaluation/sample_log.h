// What an evaluation has found so far, a JSON object a sample, so that a run that was stopped goes
// on where it was: with --output DIR the lines are in DIR/MODEL/samples_TASK.part.jsonl while it
// runs, and in lm-eval's layout (samples_TASK_TIME.jsonl, results_TIME.json) when it has ended.
//
// Several ranks take the samples in turn. All have all that were found; the first one has the
// files.
#pragma once
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/llama/part_log.h"
#include "apps/options/options.h"
#include "apps/program/json_object.h"

namespace mullion {

// --output --name --log-samples --limit --batch-size --show
void add_evaluation_options(OptionTable& table);

class SampleLog {
 public:
  // `task`: in the names of files, where --name is not given. Error(usage) where the folder has
  // lines of other options.
  SampleLog(const Options& options, const std::string& task);
  // Samples of an earlier run, then those added; in order.
  const std::vector<nlohmann::json>& samples() const { return samples_; }
  // On disk when it returns. All ranks add the same one.
  void add(const JsonObject& sample);
  // The samples that each rank has found in its turn, those of the first rank first.
  void add_of_ranks(const std::vector<JsonObject>& mine);
  // results_TIME.json with `results` by name and the rest of lm-eval's fields; returns its path, ""
  // without --output.
  std::filesystem::path finish(const std::vector<std::pair<std::string, JsonObject>>& results,
                               int64_t few_shots);
  // The same file with this text; the samples so far are then no run to go on with.
  std::filesystem::path finish_with(const std::string& results, const std::string& time);

  // Of an evaluation of `count` samples that was stopped: how far it came, and what is kept.
  void tell_stopped(int64_t count) const;
  // Where the samples are while it runs; "" without --output.
  std::filesystem::path part() const { return part_ ? part_->file() : std::filesystem::path(); }

 private:
  void take(const std::string& line);
  const Options& options_;
  std::string task_, file_name_, model_;
  std::filesystem::path folder_;
  std::optional<PartLog> part_;
  std::vector<nlohmann::json> samples_;
};

// A round of samples: each rank takes the next batch. `count` of them from `at` on are left.
struct SampleTurn {
  int64_t begin = 0, end = 0;  // this rank's; none at the end where there are fewer batches
};
// `batch_end(begin)`: of the batch that begins there.
SampleTurn turn_of_rank(int64_t at, int64_t count,
                        const std::function<int64_t(int64_t)>& batch_end);

// Now, in UTC, as lm-eval's files are named: "2026-11-29T19-40-00.123456".
std::string results_time();
// "/a/b:c" -> "__a__b__c", as lm-eval names folders.
std::string sanitized_name(const std::string& name);
// Mean and the standard error of it, sqrt(s^2 / n) with s^2 over n - 1.
struct Mean {
  double value = 0, error = 0;
  int64_t n = 0;
};
Mean mean_of(const std::vector<double>& values);

}  // namespace mullion
