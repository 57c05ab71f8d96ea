// What is different in a process that is one of several ranks (apps/run/ranks.h).
#pragma once
#include <string>
#include <vector>

namespace mullion {

// Until set_log_rank(): put before each line, since ranks that have not met say the same things.
// "": nothing is.
void set_log_speaker(const std::string& name);
// This process is a rank. All but the first, whose name is "", write no lines (apps/program/log.h)
// but those of their errors, with the name before them; files get all. Warnings are kept, for the
// first rank to say those that it has not said itself (apps/run/ranks.h).
void set_log_rank(const std::string& name);
bool has_warnings();
std::vector<std::string> take_warnings();  // without "warning: "
// Nobody will ask for them: says those kept, and later ones at once.
void release_warnings();

// Of a device without an index, "cuda" or "auto": the rank's place on its node. 0 at first.
void set_default_device_index(int index);

}  // namespace mullion
