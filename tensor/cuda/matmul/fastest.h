// Which of several ways to compute the same thing takes the least time on this device.
#pragma once
#include <functional>

namespace mullion::cuda {

// The number of the fastest of `count` ways; run(i) queues way i on the current stream, or answers
// false where it cannot. Each runs once to warm up and twice for the clock; the device is waited
// for. Way 0 is kept unless another is more than 3 % faster, so that noise does not choose.
int fastest_of(int count, const std::function<bool(int)>& run);

}  // namespace mullion::cuda
