// tool_tic receptive-field: which pixels of the input the centre of the last map depends on.
#pragma once
#include "apps/program/main.h"

namespace mullion {

Verb receptive_field_verb();

}  // namespace mullion
