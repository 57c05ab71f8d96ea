// tool_tic bench: images a second and memory by size and batch.
#pragma once
#include "apps/program/main.h"

namespace mullion {

Verb bench_verb();

}  // namespace mullion
