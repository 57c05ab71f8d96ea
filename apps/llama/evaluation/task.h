// The evaluations of eval_llama. A task is a file of apps/llama/tasks: NAME.cc defines
//
//   EvaluationTask NAME_task();
//
// and the build makes the list of them from the folder, so that nothing else names it.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "apps/llama/model_options.h"
#include "apps/program/main.h"
#include "tensor/attention_pattern.h"

namespace mullion {

// The model of one call: opened when the first task asks for it, and kept while others ask for the
// same one (eval_llama all).
class SharedModel {
 public:
  // As open_model(options, context), under full attention whatever the last task did. What is
  // returned stays until the next call.
  const OpenedModel& open(const Options& options, int64_t context);

 private:
  std::string asked_;
  std::optional<OpenedModel> opened_;
  AttentionPattern full_;
};

struct EvaluationTask {
  OptionTable table;
  std::function<Outcome(const Options&, SharedModel&)> run;
};

// All of them, by name.
std::vector<EvaluationTask> evaluation_tasks();
// Each as a verb that opens a model of its own.
std::vector<Verb> evaluation_verbs();

}  // namespace mullion
