// Stand-ins until the backend's runtime is linked.
#include "tensor/cuda/launch.h"

namespace mullion::cuda {
__attribute__((weak)) cudaStream_t current_stream() { return nullptr; }
__attribute__((weak)) void launched(const char*) {}
}  // namespace mullion::cuda
