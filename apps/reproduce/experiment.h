// An experiment of a paper as data: which programs are called with what (jobs), and which of their
// answers stand beside which of the paper's figures (rows). Nothing here computes a result: a job
// is a call of one of the other programs, started as its own process, so that each row is an
// example of their use, has a peak of memory of its own, and cannot take the others down with it.
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace mullion {

enum class Scale { mini, small, paper };
const std::vector<std::string>& scale_names();

// What a job takes, for estimates.
struct Cost {
  double tflop = 0, gib = 0;
};

struct Job {
  // Of its folder, the same for the same call in every experiment, which then share it.
  std::string name = {};
  std::string program = {};
  // "@NAME/rest" stands for a path in the folder of another job, on which this one then depends.
  std::vector<std::string> arguments;
  Cost cost = {};
  int64_t seed = 0;      // 0: none of its own
  bool trains = false;   // leaves a run folder with curves
  std::string arm = {};  // of the curve's name
};

// A figure of the paper. `mark`: "paper" read in it, "recall" remembered, "?" not to be had; ""
// where the paper has no such row.
struct Published {
  std::optional<double> value;
  std::string mark;
};
inline Published in_paper(double value) { return {value, "paper"}; }
inline Published recalled(double value) { return {value, "recall"}; }
inline Published unknown() { return {std::nullopt, "?"}; }

// The answers of the jobs that are complete, by name.
using Answers = std::map<std::string, nlohmann::json>;

struct Row {
  std::string arm = {}, metric = {};
  std::optional<double> x = {};      // what the metric is over: a context, a budget
  std::optional<double> depth = {};  // of a heat map; such rows stand there and not in the table
  Published paper = {};
  // Of the paper's order where its figures are not to be had; lower is better.
  std::optional<double> rank = {};
  std::vector<std::string> jobs = {};  // all that the row needs
  // For the i-th seed; none where it was not measured.
  std::function<std::optional<double>(const Answers&, size_t seed)> value = {};
  std::string note = {};
  std::string mark = {};  // "reconstruction" where our choice stands in for the paper's
};

// How the rows of one metric compare.
struct Metric {
  bool lower_is_better = true;
  std::string x_label = "tokens";
  std::string reference = {};  // the arm that ratios are to
  bool log_x = true;
  int digits = 3;
  bool is_difference = false;  // said where an interval holds 0
};

// A PNG file that a job leaves in its folder, for the page.
struct JobPicture {
  std::string job, file, caption;
};

struct Plan {
  std::vector<Job> jobs;
  std::vector<Row> rows;
  std::map<std::string, Metric> metrics;
  std::vector<std::string> notes;
  std::vector<std::string> patterns;  // of attention, to be drawn
  std::vector<JobPicture> pictures;
  size_t seeds = 1;  // that the rows are measured for

  // Adds the job where it is not there yet; the same name with another call is an error. Returns
  // the name.
  std::string add(const Job& job);
};

// Files that a scale needs and that are not made.
struct Need {
  std::filesystem::path path;
  std::string what, size;
};

struct World {
  Scale scale = Scale::mini;
  bool smoke = false;  // every training two steps, every evaluation a sample or two
  size_t seeds = 1;
  int64_t limit = 0;                   // questions of each evaluation that has such; 0: all
  int64_t epochs = 0;                  // of each training on folders of images; 0: the scale's
  std::filesystem::path models, data;  // "" where not given
};

// What the experiments of a paper share at a scale.
struct Background {
  std::string heading;  // "mini: 1.1 M parameters, made-up language"
  std::vector<Need> needs;
};

struct Experiment {
  std::string id, paper, what;  // "sinklora/pilot", "SinkLoRA, Table 1", a few words
  std::function<void(Plan&, const World&)> plan;
  std::map<Scale, std::string> left_out = {};  // the scales that it does not have, and why
  std::function<Background(const World&)> background = {};

  std::string unavailable(Scale scale) const {
    return left_out.contains(scale) ? left_out.at(scale) : "";
  }
};

// Every experiment, in the papers' order.
const std::vector<Experiment>& experiments();
// Those that ids name: one, a group ("sinklora", "sinklora/..."), or all. Error(usage) for others.
std::vector<const Experiment*> chosen_experiments(const std::vector<std::string>& ids);

}  // namespace mullion
