// Runs jobs, each in a folder of its own: OUTPUT/arms/SCALE/NAME holds what the program leaves
// there (a run with its checkpoints, token files), job.log with what it said, and job.json: the
// call, what decided it, the seconds it took, and its answer. A job that is complete is not run
// again; one that was stopped goes on; one whose call, data or earlier jobs changed is said, moved
// aside (NAME.old-1, ...) and run anew.
#pragma once
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "apps/reproduce/experiment.h"

namespace mullion {

// Of a file or a folder that a job reads, so that another model or other data are seen.
struct PathState {
  std::string digest;  // of the relative paths, sizes and times of all files
  // What older arms have instead: [size, time] of a file, [sum of sizes, 0] of a folder without
  // what links in it lead to.
  nlohmann::json of_before;
};

class Runner {
 public:
  // Takes OUTPUT/arms/SCALE/LOCK; Error(usage) where another process has it.
  explicit Runner(std::filesystem::path arms);
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  // The jobs of the plan that the rows need, in an order in which each comes after those it needs.
  static std::vector<Job> order(const Plan& plan, const std::vector<Row>& rows);
  // Runs those that are not complete. False where a stop was asked for: what is done is kept.
  bool run(const std::vector<Job>& jobs);

  bool is_complete(const Job& job) const;
  // Of all that were complete or have been run: the answer, with "seconds" and, of trainings,
  // "mem_gib" and "tok_s" or "img_s" of the last step.
  const Answers& answers() const { return answers_; }
  // {name: {command, seed, seconds, version, commit}} of those.
  const nlohmann::json& records() const { return records_; }
  const std::vector<std::string>& failures() const { return failures_; }
  int failure_code() const { return failure_code_; }

  std::filesystem::path folder(const std::string& job) const { return arms_ / job; }
  std::string command(const Job& job) const;

 private:
  const PathState& state_of(const std::filesystem::path& path) const;
  nlohmann::json identity(const Job& job) const;
  // "" where job.json has the same identity; else what differs.
  std::string difference(const Job& job, const nlohmann::json& was) const;
  void set_aside(const Job& job, const std::string& why) const;
  void keep(const Job& job, const nlohmann::json& record);
  bool run_one(const Job& job, size_t number, size_t count);

  std::filesystem::path arms_;
  int lock_ = -1;
  std::string commit_;
  Answers answers_;
  nlohmann::json records_ = nlohmann::json::object();
  mutable std::map<std::filesystem::path, PathState> states_;
  std::map<std::string, std::string> identities_;  // of those in answers_, as hashes
  std::set<std::string> failed_;
  std::vector<std::string> failures_;
  int failure_code_ = 0;
};

// What a job's program is called with, "@NAME/..." as paths beneath `arms`, trainings with their
// run.
std::vector<std::string> job_arguments(const Job& job, const std::filesystem::path& arms);
// The names of jobs that the arguments refer to.
std::vector<std::string> needs_of(const Job& job);
// Of the source tree that the programs were built in: 12 digits, "+" behind them where files
// differ;
// "" where there is none.
std::string source_commit();

}  // namespace mullion
