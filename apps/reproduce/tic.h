// The experiments of TiC (arXiv 2310.04134). Of that paper its abstract and its operator are known,
// no figure: every model here is this project's reconstruction, and what the paper says in words
// stands as an order of arms.
#pragma once
#include <string>
#include <vector>

#include "apps/reproduce/experiment.h"
#include "models/tic/config.h"

namespace mullion {

std::vector<Experiment> tic_experiments();

// What a model is trained and judged on.
struct TicTask {
  std::string name;                        // "cue"; of folders
  std::string data;                        // --data-dir
  std::string about = {};                  // "tic-t, ImageNet-1K"
  TicConfig config = tic_preset("tic-n");  // the model with all that it has; arms change it
  int64_t side = 32;
  double images = 0;                         // that a training goes through
  double epoch_images = 0;                   // of a pass over a folder; 0: scenes without end
  double judged = 0;                         // of an evaluation
  int64_t batch = 64;                        // images in memory at a time
  std::vector<std::string> training = {};    // flags of every training, the model's among them
  std::vector<std::string> evaluation = {};  // of every evaluation
};
struct TicSetting {
  World world;
  std::vector<Need> needs;
  std::vector<TicTask> tasks;             // of `classification`
  TicTask ablation;                       // of all the others
  std::vector<std::string> sizes;         // of `resolution`, "32" or "32x48"
  std::string measured_preset = "tic-n";  // of `cost`
  TicConfig measured = tic_preset("tic-n");
  std::vector<int64_t> train_sizes, forward_sizes, twin_forward_sizes;
  int64_t field_side = 128;         // of `receptive-field`: more than a model sees
  std::vector<std::string> device;  // flags of every program
};
TicSetting tic_setting(const World& world);

struct TicArm {
  std::string label, tag;  // in the table; of its folder
  TicConfig config;
};
// The model with its strategies: none, the shift, the pooling, both.
std::vector<TicArm> strategy_arms(const TicConfig& both);
TicArm twin_arm(const TicConfig& config, int64_t side);

// The jobs, by name.
std::string train_tic(Plan& plan, const TicSetting& s, const TicTask& task, const TicArm& arm,
                      size_t seed);
// At `sizes`, "32" or "32x48".
std::string eval_tic(Plan& plan, const TicSetting& s, const TicTask& task, const TicArm& arm,
                     size_t seed, const std::vector<std::string>& sizes);
// Trains with every seed and evaluates at the task's size: one job a seed.
std::vector<std::string> judged_jobs(Plan& plan, const TicSetting& s, const TicTask& task,
                                     const TicArm& arm);
// What makes `config` of the preset, or of the task's model.
std::vector<std::string> architecture_flags(const TicConfig& from, const TicConfig& config);

// The parts of tic_experiments().
std::vector<Experiment> tic_ablations();  // classification, strategies, variants
std::vector<Experiment> tic_sizes();      // resolution, cost, receptive-field

}  // namespace mullion
