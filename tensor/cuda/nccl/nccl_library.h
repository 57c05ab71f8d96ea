// NCCL as this machine has it: opened when ranks first want it, as cuBLASLt is.
#pragma once
#include <string>

namespace mullion::cuda {

// "NCCL 2.28.9". Throws Error(usage) with the reason where the build was made without nccl.h, the
// library cannot be opened, or is older than what is used of it: communicators whose calls do not
// block (2.14).
std::string nccl_version();

}  // namespace mullion::cuda
