// Libraries of the CUDA toolkit that are opened when they are first needed. They are not linked:
// each has hundreds of megabytes of kernels, with which every program would start, on machines
// without a GPU as well, and a machine without one of them can still run the rest.
#pragma once
#include <string>

namespace mullion::cuda {

// Opens a shared library where the dynamic loader finds it (LD_LIBRARY_PATH, the system's folders)
// and otherwise in `folder`; it stays open. Throws Error(usage) that begins with `needed_by`, names
// the library and says what the loader said.
void* open_library(const std::string& needed_by, const std::string& name,
                   const std::string& folder);
// A function of it. Throws Error(usage) where it has none of this name.
void* function_in(void* library, const std::string& needed_by, const std::string& name);

}  // namespace mullion::cuda

// The function of a header as the library has it: what `find` says of its name, asked once.
#define MULLION_LOADED(find, name)                                          \
  ([] {                                                                     \
    static const auto f = reinterpret_cast<decltype(&::name)>(find(#name)); \
    return f;                                                               \
  }())
