#include "apps/llama/evaluation/task.h"

namespace mullion {

// EVALUATION_TASK(choice) and so on, a line a file of apps/llama/tasks; made by
// apps/CMakeLists.txt.
#define EVALUATION_TASK(name) Verb name##_task();
#include "evaluation_tasks.inc"
#undef EVALUATION_TASK

std::vector<Verb> evaluation_tasks() {
  return {
#define EVALUATION_TASK(name) name##_task(),
#include "evaluation_tasks.inc"
#undef EVALUATION_TASK
  };
}

}  // namespace mullion
