// data_llama compose: a set of instructions drawn from named sources in stated numbers.
#pragma once
#include "apps/program/main.h"

namespace mullion {

OptionTable compose_table();
Outcome compose(const Options& options);

}  // namespace mullion
