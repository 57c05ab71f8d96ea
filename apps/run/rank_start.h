// Before the ranks have met: which rank this process will be, so that its lines have that name, and
// how one that does not come says so to those who wait for it.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace mullion {

// What the arguments say of --launcher, of which the rest may be wrong; "auto": nothing.
std::string launcher_in(const std::vector<std::string>& arguments);

// Lines are those of the rank that this launcher has made of this process (set_log_rank), or of a
// process that is alone.
void name_rank(const std::string& launcher);
int64_t launched_rank();  // of name_rank(); 0 as well where this process is alone

// This process comes to the others or is alone: nobody waits for it from now on.
void rank_comes();
// The way out before that, of an error or an answer such as --help, for a program that knows ranks:
// those who wait hear why this one does not come. `say` gives its own words. They are left out at
// another rank than the first where that one ends for the same reason, and has said so.
void tell_waiting_ranks(const std::string& why, const std::function<void()>& say);

// For a program without ranks: Error(usage) in each process of a launcher, of which all would do
// the same work.
void refuse_ranks(const std::string& program);

}  // namespace mullion
