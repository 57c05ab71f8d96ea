// The evaluations of eval_llama. A task is a file of apps/llama/tasks: NAME.cc defines
//
//   Verb NAME_task();
//
// and the build makes the list of them from the folder, so that nothing else names it.
#pragma once
#include <vector>

#include "apps/program/main.h"

namespace mullion {

// All of them, by name.
std::vector<Verb> evaluation_tasks();

}  // namespace mullion
