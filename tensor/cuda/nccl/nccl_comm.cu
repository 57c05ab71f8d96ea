// Calls polled to their end; what fails is asked of the ranks before it is reported.
#ifdef MULLION_HAVE_NCCL
#include "tensor/cuda/nccl/nccl_comm.h"

#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "tensor/check.h"
#include "tensor/cuda/runtime/runtime.h"

namespace mullion::cuda {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kSpins = 200;                      // tries before the host lets others compute
constexpr std::chrono::microseconds kPause(20);  // between later ones
constexpr std::chrono::milliseconds kLook(100);  // from one look at the other ranks to the next
constexpr std::chrono::seconds kToldWithin(2);   // how long a lost rank's connections may live on
constexpr std::chrono::seconds kFinishedWithin(5);  // of a communicator that all have done with

Fault fault_of(ncclResult_t result) {
  if (result == ncclRemoteError) return Fault::peer_lost;
  const bool misused = result == ncclInvalidArgument || result == ncclInvalidUsage;
  return misused ? Fault::usage : Fault::memory;
}

}  // namespace

Event::Event(cudaStream_t stream) {
  CUDA_CHECK(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming));
  const cudaError_t status = cudaEventRecord(event_, stream);
  if (status != cudaSuccess) cudaEventDestroy(event_);
  cuda::check(status, "cudaEventRecord");
}
Event::~Event() {
  if (cudaEventDestroy(event_) != cudaSuccess) cudaGetLastError();
}
bool Event::has_passed() const {
  const cudaError_t status = cudaEventQuery(event_);
  if (status == cudaErrorNotReady) {
    cudaGetLastError();  // it must not be taken for a failure of the next launch
    return false;
  }
  cuda::check(status, "cudaEventQuery");
  return true;
}
void Event::holds_back(cudaStream_t stream) const {
  CUDA_CHECK(cudaStreamWaitEvent(stream, event_, 0));
}

CollectiveStream::CollectiveStream(int its_device) : device(its_device) {
  const CurrentDevice current(device);
  CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
}
CollectiveStream::~CollectiveStream() {
  const CurrentDevice current(device);
  if (cudaStreamDestroy(stream) != cudaSuccess) cudaGetLastError();
}

NcclComm::NcclComm(std::shared_ptr<Communicator> host, std::shared_ptr<CollectiveStream> stream)
    : host_(std::move(host)), stream_(std::move(stream)) {
  const CurrentDevice current(device());
  ncclUniqueId id{};
  std::string made;
  if (host_->rank() == 0) {
    check(ncclGetUniqueId(&id), "ncclGetUniqueId");
    made.assign(id.internal, sizeof id.internal);
  }
  const std::string first = gather_texts(*host_, made).front();
  std::memcpy(id.internal, first.data(), sizeof id.internal);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  constexpr char kCall[] = "ncclCommInitRankConfig";
  check(ncclCommInitRankConfig(&comm_, static_cast<int>(host_->size()), id,
                               static_cast<int>(host_->rank()), &config),
        kCall);
  settle(kCall);
}

// With a collective under way the others would be waited for: they may be gone.
NcclComm::~NcclComm() {
  if (!comm_) return;
  const CurrentDevice current(device());
  ncclResult_t state = under_way_ > 0 ? ncclInternalError : ncclCommFinalize(comm_);
  const auto end = Clock::now() + kFinishedWithin;
  while (state == ncclInProgress && Clock::now() < end) {
    std::this_thread::sleep_for(kPause);
    if (ncclCommGetAsyncError(comm_, &state) != ncclSuccess) state = ncclInternalError;
  }
  if (state == ncclSuccess)
    ncclCommDestroy(std::exchange(comm_, nullptr));
  else
    abort();
}

std::unique_ptr<Event> NcclComm::queue(const char* op, const Calls& calls) {
  if (failure_) std::rethrow_exception(failure_);
  CHECK(comm_, op, ": the communicator has been ended");
  refuse_in_recording("computes with other ranks");
  const CurrentDevice current(device());
  Event(current_stream()).holds_back(stream_->stream);
  calls(comm_, stream_->stream);
  settle(op);
  ++under_way_;
  return std::make_unique<Event>(stream_->stream);
}

void NcclComm::wait(const char* op, const Event& done) {
  if (failure_) std::rethrow_exception(failure_);
  const CurrentDevice current(device());
  poll(op, [&] { return done.has_passed(); });
  done.holds_back(current_stream());
  --under_way_;
}

void NcclComm::check(ncclResult_t result, const char* call) {
  if (result != ncclSuccess && result != ncclInProgress) fail(result, call);
}

void NcclComm::abort() noexcept {
  if (comm_) ncclCommAbort(std::exchange(comm_, nullptr));
}

template <typename Done>
void NcclComm::poll(const char* call, const Done& done) {
  auto looked = Clock::now();
  for (int tries = 0; !done(); ++tries) {
    if (tries < kSpins) continue;
    std::this_thread::sleep_for(kPause);
    if (Clock::now() - looked < kLook) continue;
    look(call);
    looked = Clock::now();
  }
}

void NcclComm::look(const char* call) {
  ncclResult_t state = ncclSuccess;
  check(ncclCommGetAsyncError(comm_, &state), "ncclCommGetAsyncError");
  check(state, call);
  try {
    host_->check_peers();
  } catch (...) {
    end_with(std::current_exception());
  }
}

// A call that does not block has done its part when the communicator's state says so.
void NcclComm::settle(const char* call) {
  poll(call, [&] {
    ncclResult_t state = ncclSuccess;
    check(ncclCommGetAsyncError(comm_, &state), "ncclCommGetAsyncError");
    check(state, call);
    return state == ncclSuccess;
  });
}

// What NCCL meets first is often the end of another rank, of which the ranks' own connections know
// more, soon.
void NcclComm::fail(ncclResult_t result, const char* call) {
  std::string text = concat("NCCL: ", call, ": ", ncclGetErrorString(result));
  const char* const details = comm_ ? ncclGetLastError(comm_) : nullptr;
  if (details && *details) text += concat(" (", details, ")");
  const Fault fault = fault_of(result);
  try {
    const auto end = Clock::now() + (fault == Fault::usage ? Clock::duration() : kToldWithin);
    while (Clock::now() < end) {
      host_->check_peers();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  } catch (const Error& lost) {
    end_with(std::make_exception_ptr(Error(concat(lost.what(), "; ", text), lost.fault())));
  }
  end_with(std::make_exception_ptr(Error(text, fault)));
}

void NcclComm::end_with(std::exception_ptr failure) {
  failure_ = std::move(failure);
  abort();
  std::rethrow_exception(failure_);
}

}  // namespace mullion::cuda
#endif
