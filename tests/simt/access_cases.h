// The main kernels at small sizes with the widths of the models, for their counts of accesses to
// memory (tensor/simt/access_counters.h).
#pragma once
#include <map>
#include <string>

#include "tensor/simt/access_counters.h"

namespace mullion::test {

// Runs the cases whose names contain `part`. By "case: kernel", without the kernels that a case
// needs but is not about.
std::map<std::string, simt::KernelAccesses> count_main_kernels(const std::string& part);

}  // namespace mullion::test
