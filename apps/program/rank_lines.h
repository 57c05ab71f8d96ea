// What is different in a process that is one of several ranks (apps/run/ranks.h).
#pragma once
#include <string>

namespace mullion {

// For ranks but the first, which write no lines (apps/program/log.h) but those of their errors,
// with this name before them; files get all.
void set_log_rank(const std::string& name);

// Of a device without an index, "cuda" or "auto": the rank's place on its node. 0 at first.
void set_default_device_index(int index);

}  // namespace mullion
