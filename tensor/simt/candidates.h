// The ways of computing a product that the emulated cuBLASLt offers, best first as it believes: way
// i takes milliseconds[i] longer than it must, or cannot be run where that is negative. {0} at
// first.
#pragma once
#include <vector>

namespace mullion::simt {

void offer_candidates(std::vector<int> milliseconds);
std::vector<int> candidate_runs();  // how often each has run since they were offered

}  // namespace mullion::simt
