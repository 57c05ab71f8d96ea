// data_llama instructions: what a training would see of instruction data.
#pragma once
#include "apps/program/main.h"

namespace mullion {

OptionTable instructions_table();
Outcome show_instructions(const Options& options);

}  // namespace mullion
