// dlopen() at the two places, and dlsym().
#include "tensor/cuda/runtime/shared_library.h"

#include <dlfcn.h>

#include "tensor/check.h"

namespace mullion::cuda {

void* open_library(const std::string& needed_by, const std::string& name,
                   const std::string& folder) {
  std::string reasons;
  for (const std::string& path : {name, folder + "/" + name}) {
    if (void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    const char* const reason = dlerror();
    reasons += concat(reasons.empty() ? "" : "; ", reason ? reason : path);
  }
  throw Error(concat(needed_by, " need ", name, ": ", reasons), Fault::usage,
              "LD_LIBRARY_PATH names the folder of the CUDA toolkit's libraries");
}

void* function_in(void* library, const std::string& needed_by, const std::string& name) {
  void* const found = dlsym(library, name.c_str());
  CHECK_AS(Fault::usage, found, needed_by, " need a newer library: this machine's has no ", name);
  return found;
}

}  // namespace mullion::cuda
