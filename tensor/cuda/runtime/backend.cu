// The CUDA backend makes itself known to the programs that link it.
#include "tensor/backend.h"

#include <cuda_runtime_api.h>

#include "tensor/cuda/kernels.h"
#include "tensor/cuda/runtime/runtime.h"

namespace mullion::cuda {
namespace {

const KernelTable& table_of(int index) {
  make_current(index);
  return kTable;
}

// Its place on the machine's PCI bus; the parts that MIG makes of one GPU have the same.
std::string identity(int index) {
  char text[32] = {};
  CUDA_CHECK(cudaDeviceGetPCIBusId(text, sizeof text, index));
  return text;
}

constexpr DeviceBackend kBackend = {
    .kernels = table_of,
    .count = count,
    .describe = describe,
    .identity = identity,
    .allocate = allocate,
    .free = free,
    .upload = upload,
    .download = download,
    .copy = copy_block,
    .set_bytes = set_bytes,
    .synchronize = synchronize,
    .trim = trim,
    .begin_recording = begin_recording,
    .end_recording = end_recording,
    .abandon_recording = abandon_recording,
    .replay = replay,
    .nodes_of = nodes_of,
    .destroy_graph = destroy_graph,
};

struct Registration {
  Registration() { register_backend(DeviceType::cuda, kBackend); }
} registration;

}  // namespace
}  // namespace mullion::cuda
