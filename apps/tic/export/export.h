// tool_tic export.
#pragma once
#include "apps/program/main.h"

namespace mullion {

Verb export_verb();

}  // namespace mullion
