// --dry-run of verbs that have no plan to print: refused, so that who asks for a plan does not get
// the work.
#pragma once
#include <vector>

#include "apps/program/main.h"

namespace mullion {

// The same verb, whose --dry-run is Error(usage).
Verb without_dry_run(Verb verb);
std::vector<Verb> without_dry_run(std::vector<Verb> verbs);

}  // namespace mullion
