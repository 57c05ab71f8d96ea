// Registers of kernels, from tools/kernel_report: a block's threads need their registers at once,
// so that a kernel of many of them cannot be launched with many threads. The compiler that builds
// the emulator knows nothing of registers.
#pragma once
#include <string>

namespace mullion::simt {

// Why a launch of this kernel with so many threads fails on every device; empty where it may not.
std::string why_too_many_threads(const void* function, int threads);

}  // namespace mullion::simt
