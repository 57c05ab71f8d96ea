// The verbs of tool_tic: predict, attention, receptive-field, bench, export.
#pragma once
#include "apps/program/main.h"

namespace mullion {

Verb predict_verb();
Verb attention_verb();
Verb receptive_field_verb();
Verb bench_verb();
Verb export_verb();

}  // namespace mullion
