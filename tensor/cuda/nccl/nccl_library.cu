// The functions of <nccl.h> that ranks use: each finds itself in the library when it is first
// called. Under the emulator, which has its own, only the version is asked here.
#include "tensor/cuda/nccl/nccl_library.h"

#include "tensor/check.h"

#ifndef MULLION_HAVE_NCCL
namespace mullion::cuda {
std::string nccl_version() {
  throw Error("this build has no NCCL", Fault::usage,
              "configure again where nccl.h is (Debian: libnccl-dev; -DMULLION_NCCL=ON insists)");
}
}  // namespace mullion::cuda
#else

#include <nccl.h>

namespace mullion::cuda {

std::string nccl_version() {
  int version = 0;
  const ncclResult_t status = ncclGetVersion(&version);
  CHECK_AS(Fault::usage, status == ncclSuccess, "ncclGetVersion: ", ncclGetErrorString(status));
  // 2.9 and later: 10000 major + 100 minor + patch.
  const std::string text =
      concat("NCCL ", version / 10000, ".", version % 10000 / 100, ".", version % 100);
  CHECK_AS(Fault::usage, version >= 21400, text, " is older than 2.14");
  return text;
}

}  // namespace mullion::cuda

#ifndef MULLION_SIMT
#include "tensor/cuda/runtime/shared_library.h"

namespace mullion::cuda {
namespace {

constexpr char kNeededBy[] = "collectives between GPUs";

void* function(const char* name) {
  static void* const library =
      open_library(kNeededBy, concat("libnccl.so.", NCCL_MAJOR), MULLION_NCCL_FOLDER);
  return function_in(library, kNeededBy, name);
}

}  // namespace
}  // namespace mullion::cuda

// Each is the library's own function of its name, called with the same arguments.
#define LOADED(name) MULLION_LOADED(mullion::cuda::function, name)

ncclResult_t ncclGetVersion(int* version) { return LOADED(ncclGetVersion)(version); }
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) { return LOADED(ncclGetUniqueId)(id); }
ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  return LOADED(ncclCommInitRankConfig)(comm, ranks, id, rank, config);
}
ncclResult_t ncclCommFinalize(ncclComm_t comm) { return LOADED(ncclCommFinalize)(comm); }
ncclResult_t ncclCommDestroy(ncclComm_t comm) { return LOADED(ncclCommDestroy)(comm); }
ncclResult_t ncclCommAbort(ncclComm_t comm) { return LOADED(ncclCommAbort)(comm); }
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  return LOADED(ncclCommGetAsyncError)(comm, error);
}
const char* ncclGetErrorString(ncclResult_t error) { return LOADED(ncclGetErrorString)(error); }
const char* ncclGetLastError(ncclComm_t comm) { return LOADED(ncclGetLastError)(comm); }

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclRedOp_t how, ncclComm_t comm, cudaStream_t stream) {
  return LOADED(ncclAllReduce)(from, to, count, type, how, comm, stream);
}
ncclResult_t ncclReduceScatter(const void* from, void* to, size_t count, ncclDataType_t type,
                               ncclRedOp_t how, ncclComm_t comm, cudaStream_t stream) {
  return LOADED(ncclReduceScatter)(from, to, count, type, how, comm, stream);
}
ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  return LOADED(ncclAllGather)(from, to, count, type, comm, stream);
}
ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return LOADED(ncclBroadcast)(from, to, count, type, root, comm, stream);
}
ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return LOADED(ncclSend)(from, count, type, peer, comm, stream);
}
ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return LOADED(ncclRecv)(to, count, type, peer, comm, stream);
}
ncclResult_t ncclGroupStart() { return LOADED(ncclGroupStart)(); }
ncclResult_t ncclGroupEnd() { return LOADED(ncclGroupEnd)(); }
#endif  // MULLION_SIMT
#endif  // MULLION_HAVE_NCCL
