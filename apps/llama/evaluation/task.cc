// The list of tasks that the build has found, as verbs, and one model that they share.
#include "apps/llama/evaluation/task.h"

namespace mullion {
namespace {

// What decides which model is opened.
std::string model_asked(const Options& options, int64_t context) {
  std::string asked = options.device();
  const OptionTable& table = options.table();
  for (const OptionSpec& spec : table.specs())
    if (spec.key.starts_with("model.") || spec.key.starts_with("context.") || spec.key == "run.amp")
      asked += "\n" + spec.key + " " +
               (options.has(spec.key) ? toml_text(options.value(spec.key)) : std::string());
  const bool by_context = options.get<std::string>("context.rope_scaling") == "linear" &&
                          options.get<std::string>("context.rope_factor") == "auto";
  return by_context ? concat(asked, "\n", context) : asked;
}

}  // namespace

const OpenedModel& SharedModel::open(const Options& options, int64_t context) {
  const std::string asked = model_asked(options, context);
  // A context that does not fit is refused where the model is opened.
  if (!opened_ || asked != asked_ || context > opened_->model->context()) {
    opened_.reset();  // before the next one takes memory
    opened_ = open_model(options, context);
    asked_ = asked;
    full_ = opened_->model->pattern();
  }
  opened_->model->set_pattern(full_);
  return *opened_;
}

// EVALUATION_TASK(choice) and so on, a line a file of apps/llama/tasks; made by
// apps/CMakeLists.txt.
#define EVALUATION_TASK(name) EvaluationTask name##_task();
#include "evaluation_tasks.inc"
#undef EVALUATION_TASK

std::vector<EvaluationTask> evaluation_tasks() {
  return {
#define EVALUATION_TASK(name) name##_task(),
#include "evaluation_tasks.inc"
#undef EVALUATION_TASK
  };
}

std::vector<Verb> evaluation_verbs() {
  std::vector<Verb> verbs;
  for (EvaluationTask& task : evaluation_tasks())
    verbs.push_back({std::move(task.table), [run = std::move(task.run)](const Options& options) {
                       SharedModel model;
                       return run(options, model);
                     }});
  return verbs;
}

}  // namespace mullion
