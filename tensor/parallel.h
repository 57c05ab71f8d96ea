// parallel_for: the one way the CPU kernels use several cores. The split depends on the number of
// threads alone, so the same number of threads gives the same bits.
#pragma once
#include <cstdint>
#include <functional>

namespace mullion {

int num_threads();
void set_num_threads(int n);  // 0: as many as the machine has cores

// For tests: whether parallel_for() takes every grain for 1, so that small loops are split as well.
void set_finest_split(bool on);

// Calls body(begin, end) for disjoint ranges that cover [0, n), one range a thread, each at least
// `grain` long. Runs on the calling thread when one range is enough or when already inside a
// parallel_for. An exception thrown by a body is thrown again here.
void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

// Calls body(i, thread) for every i in [0, n), handed out one at a time, for work items of unequal
// cost. `thread` in [0, num_threads()) numbers the scratch space to use. Results must not depend on
// which thread takes which item.
void parallel_items(int64_t n, const std::function<void(int64_t, int)>& body);

}  // namespace mullion
