// How the programs come to cuBLASLt: not linked, since its half gigabyte of kernels would make
// every program start at 200 MB of resident memory, on machines without a GPU as well, but opened
// by the first product on a device.
#pragma once
#include <string>

namespace mullion::cuda {

// Opens a shared library where the dynamic loader finds it (LD_LIBRARY_PATH, the system's folders)
// and otherwise in `folder`. Throws Error(usage) that names it and what the loader said.
void* open_library(const std::string& name, const std::string& folder);

}  // namespace mullion::cuda
