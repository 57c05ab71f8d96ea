// How long and how large an experiment is, before it is run.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "apps/reproduce/experiment.h"

namespace mullion {

struct Estimate {
  double seconds = 0, gib = 0, tflop = 0;
};
// TFLOP/s of work that counts, of language models and of TiCs.
struct Rate {
  double llama = 0, tic = 0;
  std::string where;  // "an A100 at 40 % of 312 TFLOP/s (not measured)"
};
// One after another, with `pause` seconds for each start.
Estimate estimate(const std::vector<Job>& jobs, const Rate& rate, double pause = 1);

// For --list: 2 cores of a machine of 2024 for mini and small, an A100 for paper.
Rate usual_rate(Scale scale);
// Of this machine: from the trainings that are complete beneath `arms`; where there is none of a
// kind of model that the jobs need, from steps of a small one, made in a temporary folder.
Rate measured_rate(Scale scale, const std::vector<Job>& jobs, const std::filesystem::path& arms);

std::string hours_text(double seconds);  // "40 s", "12 min", "3.4 h"

}  // namespace mullion
