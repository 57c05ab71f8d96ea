// What a learning rate's options amount to, looked at before the first step.
#pragma once
#include <string>
#include <vector>

#include "optim/schedule.h"

namespace mullion {

// Refuses (usage) rates that contradict each other: one to end at, or to start the warm-up from,
// above the highest.
void check_rates(const Schedule& schedule);
// What may be meant but seldom is, with its numbers: a rate of 0, a highest rate that is never
// reached. Lengths are given in epochs as well, where there are some.
std::vector<std::string> schedule_warnings(const Schedule& schedule, int64_t steps_per_epoch = 0);

}  // namespace mullion
