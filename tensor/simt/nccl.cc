// NCCL's functions on the emulated device. As there, a call puts work on a stream and returns, and
// the stream goes on when the other ranks have come to the same call; a rank that is gone holds it
// up until the communicator is aborted. A communicator is made without blocking, as tensor/cuda
// does.
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <random>
#include <utility>

#include "tensor/simt/device_memory.h"
#include "tensor/simt/device_model.h"
#include "tensor/simt/engine.h"
#include "tensor/simt/fault_plan.h"
#include "tensor/simt/nccl_progress.h"
#include "tensor/simt/streams.h"

struct SimtNcclComm {
  std::shared_ptr<mullion::simt::NcclProgress> progress;
  int device;
  bool asked = false;  // and nobody has looked whether it was taken in
  std::string text = {};
  std::shared_ptr<mullion::simt::NcclBatch> last = {};  // of ncclCommFinalize
};

namespace mullion::simt {
namespace {

struct Asked {
  ncclComm_t comm;
  cudaStream_t stream;
  NcclCall call;
};
thread_local int group_depth = 0;
thread_local std::vector<Asked> group;

ncclResult_t planned(const char* call) {
  const int error = planned_fault(call);
  return static_cast<ncclResult_t>(error < ncclInProgress ? error : ncclUnhandledCudaError);
}

void queue_batch(ncclComm_t comm, cudaStream_t stream, std::vector<NcclCall> calls) {
  const auto batch = std::make_shared<NcclBatch>();
  batch->calls = std::move(calls);
  const auto progress = comm->progress;
  const int ranks = progress->ranks();
  Uses uses;
  for (const NcclCall& call : batch->calls) {
    check_device_range(concat(call.name, ": source"), call.from, call.bytes_in(ranks));
    check_device_range(concat(call.name, ": target"), call.to, call.bytes_out(ranks));
    if (call.bytes_in(ranks) > 0) uses.push_back({call.from, false});
    if (call.bytes_out(ranks) > 0) uses.push_back({call.to, true});
  }
  const char* const name = batch->calls.front().name;
  enqueue(stream, name, uses, [batch, progress, ranks] {
    for (const NcclCall& call : batch->calls) {
      const auto* first = static_cast<const std::byte*>(call.from);
      batch->inputs.emplace_back(first, first + call.bytes_in(ranks));
    }
    progress->add(batch);
  });
  enqueue_when(
      stream, name, uses, [batch, progress] { return batch->done || progress->aborted(); },
      [batch, ranks] {
        if (!batch->done) return;  // aborted: the memory holds anything
        for (size_t i = 0; i < batch->calls.size(); ++i)
          if (const size_t bytes = batch->calls[i].bytes_out(ranks))
            std::memcpy(batch->calls[i].to, batch->results[i].data(), bytes);
      });
}

ncclResult_t ask(ncclComm_t comm, cudaStream_t stream, const NcclCall& call) {
  if (const ncclResult_t error = planned(call.name)) return error;
  const ncclResult_t state = comm->progress->state(&comm->text);
  if (state != ncclSuccess) return state;
  const int ranks = comm->progress->ranks(), rank = comm->progress->rank();
  if (device_of(stream) != comm->device || call.peer < 0 || call.peer >= ranks)
    return ncclInvalidArgument;
  if (call.kind >= NcclKind::send && call.peer == rank)
    report(concat(call.name, ": to or from oneself, which is not emulated"));
  if (group_depth > 0) {
    group.push_back({comm, stream, call});
    return ncclSuccess;
  }
  if (call.kind >= NcclKind::send && ranks > 2)
    report(
        concat(call.name, ": outside of a group; two ranks that wait for each other stand still"));
  queue_batch(comm, stream, {call});
  comm->asked = true;
  return ncclInProgress;
}

}  // namespace
}  // namespace mullion::simt

using namespace mullion::simt;

ncclResult_t ncclGetVersion(int* version) {
  *version = device_model().nccl;
  return planned("ncclGetVersion");
}
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::random_device random;
  const std::string name =
      mullion::concat("unix:mullion-simt-nccl-", ::getpid(), "-", random(), "-", random());
  std::memset(id->internal, 0, sizeof id->internal);
  std::memcpy(id->internal, name.data(), name.size());
  return planned("ncclGetUniqueId");
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (const ncclResult_t error = planned("ncclCommInitRankConfig")) return error;
  if (config->blocking != 0) report("ncclCommInitRankConfig: one that blocks is not emulated");
  if (config->size != sizeof *config || config->magic != 0xcafebeef || rank < 0 || rank >= ranks)
    return ncclInvalidArgument;
  id.internal[sizeof id.internal - 1] = '\0';
  *comm = new SimtNcclComm{
      NcclProgress::begin(id.internal, ranks, rank, device_model().first + current_device()),
      current_device()};
  return ncclInProgress;
}
// All ranks come to it, and are done with all that was asked for before.
ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  if (const ncclResult_t error = planned("ncclCommFinalize")) return error;
  comm->last = std::make_shared<NcclBatch>();
  comm->last->calls = {
      {NcclKind::all_gather, "ncclCommFinalize", nullptr, nullptr, 1, ncclUint8, ncclSum, 0}};
  comm->last->inputs = {{std::byte{1}}};
  comm->progress->add(comm->last);
  return ncclInProgress;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  comm->progress->end();
  delete comm;
  return planned("ncclCommDestroy");
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  comm->progress->abort();
  delete comm;
  return planned("ncclCommAbort");
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  *error = comm->progress->state(&comm->text);
  if (*error != ncclSuccess) return ncclSuccess;
  if (const ncclResult_t met = planned("ncclCommGetAsyncError"))
    *error = met;
  else if (std::exchange(comm->asked, false) || (comm->last && !comm->last->done))
    *error = ncclInProgress;
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t error) {
  constexpr const char* kTexts[] = {
      "no error",
      "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
      "unhandled system error (run with NCCL_DEBUG=INFO for details)",
      "internal error - please report this issue to the NCCL developers",
      "invalid argument (run with NCCL_DEBUG=WARN for details)",
      "invalid usage (run with NCCL_DEBUG=WARN for details)",
      "remote process exited or there was a network error",
      "NCCL operation in progress",
  };
  return kTexts[error];
}
const char* ncclGetLastError(ncclComm_t comm) { return comm->text.c_str(); }

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclRedOp_t how, ncclComm_t comm, cudaStream_t stream) {
  return ask(comm, stream, {NcclKind::all_reduce, "ncclAllReduce", from, to, count, type, how, 0});
}
ncclResult_t ncclReduceScatter(const void* from, void* to, size_t count, ncclDataType_t type,
                               ncclRedOp_t how, ncclComm_t comm, cudaStream_t stream) {
  return ask(comm, stream,
             {NcclKind::reduce_scatter, "ncclReduceScatter", from, to, count, type, how, 0});
}
ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  return ask(comm, stream,
             {NcclKind::all_gather, "ncclAllGather", from, to, count, type, ncclSum, 0});
}
ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return ask(comm, stream,
             {NcclKind::broadcast, "ncclBroadcast", from, to, count, type, ncclSum, root});
}
ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return ask(comm, stream, {NcclKind::send, "ncclSend", from, nullptr, count, type, ncclSum, peer});
}
ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return ask(comm, stream,
             {NcclKind::receive, "ncclRecv", nullptr, to, count, type, ncclSum, peer});
}
ncclResult_t ncclGroupStart() {
  ++group_depth;
  return planned("ncclGroupStart");
}
ncclResult_t ncclGroupEnd() {
  if (group_depth == 0) return ncclInvalidUsage;
  if (--group_depth > 0) return ncclSuccess;
  const std::vector<Asked> asked = std::exchange(group, {});
  if (const ncclResult_t error = planned("ncclGroupEnd")) return error;
  if (asked.empty()) return ncclSuccess;
  std::vector<NcclCall> calls;
  for (const Asked& one : asked) {
    if (one.comm != asked[0].comm || one.stream != asked[0].stream)
      report("ncclGroupEnd: calls of several communicators or streams, which is not emulated");
    calls.push_back(one.call);
  }
  queue_batch(asked[0].comm, asked[0].stream, std::move(calls));
  asked[0].comm->asked = true;
  return ncclInProgress;
}
