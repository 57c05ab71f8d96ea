// The experiments of SinkLoRA (arXiv 2406.05678), and of LongLoRA (2309.12307) under the same id.
// Figures and how sure they are: "paper" read in the paper, "recall" remembered from it, "?" not to
// be had.
#pragma once
#include <string>
#include <vector>

#include "apps/reproduce/experiment.h"
#include "models/llama/config.h"
#include "models/llama/load.h"

namespace mullion {

std::vector<Experiment> sinklora_experiments();

// What the experiments are at a scale.
struct Setting {
  World world;
  std::string heading;  // "mini: 1.1 M parameters, made-up language"
  LlamaConfig config;   // of the base, for estimates
  std::string base;     // its path
  int64_t native = 0;   // context that interpolation counts from
  std::vector<int64_t> pilot;
  int64_t ablation = 0, longest = 0, most = 0;
  std::vector<int64_t> longest_lengths, most_lengths;
  int64_t steps = 0, tokens_a_step = 0, rank = 8, windows = 0;
  int64_t rows_a_step = 0;  // instead of tokens_a_step
  double alpha = 16;
  std::vector<std::string> training, device;  // flags of every training, of every program
  std::vector<Need> needs;
};
Setting sinklora_setting(const World& world);

// A way of training.
struct Arm {
  std::string label, attention;
  std::string tag = {};  // of its folder, where the attention alone does not name it
  std::vector<std::string> flags = {};
  int64_t rank = 0;  // 0: the setting's
  std::string also = "embed,norm";
  bool full = false;  // every parameter
};

// The jobs, as names. Where they come from at each scale: made, or from models and data.
std::string training_text(Plan& plan, const Setting& s, int64_t context, size_t seed);
std::string test_text(Plan& plan, const Setting& s, int64_t context);
// Extends the base to `context` tokens.
std::string extend(Plan& plan, const Setting& s, const Arm& arm, int64_t context, size_t seed);
// What `--model` and `--adapter` are for an extended arm, or for the base at `context` ("").
std::vector<std::string> model_flags(const Setting& s, const std::string& extended, bool full,
                                     int64_t context);
std::string perplexity(Plan& plan, const Setting& s, const std::string& extended, bool full,
                       int64_t context, const std::vector<int64_t>& lengths);

// The name of an evaluation, and its --limit, where not all samples are asked for.
std::string limited_name(const World& world, const std::string& name);
std::vector<std::string> limit_flags(const World& world);

Cost reading_cost(const LlamaConfig& config, double tokens, int64_t context);
void append(std::vector<std::string>& words, const std::vector<std::string>& more);
std::string list_of(const std::vector<int64_t>& numbers);  // "5,10"
std::string with_commas(int64_t number);                   // "8,192"

// The parts of sinklora_experiments().
std::vector<Experiment> extension_experiments();
std::vector<Experiment> retrieval_experiments();
std::vector<Experiment> cache_experiments();
std::vector<Experiment> longlora_experiments();

}  // namespace mullion
