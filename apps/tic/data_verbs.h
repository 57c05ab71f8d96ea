// The verbs of data_tic: prepare, check, pack, stats.
#pragma once
#include "apps/program/main.h"

namespace mullion {

Verb pack_verb();
Verb check_verb();
Verb stats_verb();
Verb prepare_verb();

}  // namespace mullion
