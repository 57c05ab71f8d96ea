// Connections to the other ranks, and batches carried out in the order of the calls.
#include "tensor/simt/nccl_progress.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>

#include "tensor/check.h"
#include "tensor/cpu/socket_transport.h"
#include "tensor/dtype.h"

namespace mullion::simt {
namespace {

using Bytes = std::vector<std::byte>;

size_t size_of(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return 1;
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclFloat32:
      return 4;
    case ncclInt64:
    case ncclFloat64:
      return 8;
  }
  return 0;
}

template <typename T>
T join(ncclRedOp_t how, T a, T b) {
  return how == ncclMax ? std::max(a, b) : how == ncclMin ? std::min(a, b) : static_cast<T>(a + b);
}
// Each addition is rounded, as on a device.
bf16 join(ncclRedOp_t how, bf16 a, bf16 b) {
  return bf16(join(how, static_cast<float>(a), static_cast<float>(b)));
}

template <typename T>
void join_into(ncclRedOp_t how, Bytes& sum, const Bytes& other) {
  for (size_t at = 0; at < sum.size(); at += sizeof(T)) {
    T a, b;
    std::memcpy(&a, sum.data() + at, sizeof(T));
    std::memcpy(&b, other.data() + at, sizeof(T));
    a = join(how, a, b);
    std::memcpy(sum.data() + at, &a, sizeof(T));
  }
}
void join_into(ncclDataType_t type, ncclRedOp_t how, Bytes& sum, const Bytes& other) {
  switch (type) {
    case ncclFloat32:
      return join_into<float>(how, sum, other);
    case ncclFloat64:
      return join_into<double>(how, sum, other);
    case ncclBfloat16:
      return join_into<bf16>(how, sum, other);
    case ncclInt32:
      return join_into<int32_t>(how, sum, other);
    case ncclInt64:
      return join_into<int64_t>(how, sum, other);
    case ncclInt8:
      return join_into<int8_t>(how, sum, other);
    case ncclUint8:
      return join_into<uint8_t>(how, sum, other);
  }
}

bool is_between_two(NcclKind kind) { return kind == NcclKind::send || kind == NcclKind::receive; }

// What goes before the bytes of a collective, so that ranks whose calls differ hear of it; NCCL
// itself would wait for ever, or mix the bytes up.
struct Label {
  unsigned char kind = 0, type = 0, how = 0, root = 0;
  bool operator==(const Label&) const = default;
};
Bytes labelled(const Label& label, const std::byte* data, size_t bytes) {
  Bytes message(sizeof label + bytes);
  std::memcpy(message.data(), &label, sizeof label);
  if (bytes) std::memcpy(message.data() + sizeof label, data, bytes);
  return message;
}

ncclResult_t result_of(Fault fault) {
  return fault == Fault::peer_lost ? ncclRemoteError
         : fault == Fault::usage   ? ncclInvalidUsage
                                   : ncclInternalError;
}

}  // namespace

size_t NcclCall::bytes() const { return count * size_of(type); }
size_t NcclCall::bytes_in(int ranks) const {
  if (kind == NcclKind::receive) return 0;
  return kind == NcclKind::reduce_scatter ? bytes() * static_cast<size_t>(ranks) : bytes();
}
size_t NcclCall::bytes_out(int ranks) const {
  if (kind == NcclKind::send) return 0;
  return kind == NcclKind::all_gather ? bytes() * static_cast<size_t>(ranks) : bytes();
}

std::shared_ptr<NcclProgress> NcclProgress::begin(const std::string& address, int ranks, int rank,
                                                  int device) {
  const std::shared_ptr<NcclProgress> progress(new NcclProgress(ranks, rank, device));
  // It may wait for a rank that never comes: nobody waits for the thread.
  std::thread([progress, address] { progress->run(address); }).detach();
  return progress;
}

void NcclProgress::add(std::shared_ptr<NcclBatch> batch) {
  const std::lock_guard lock(mutex_);
  batches_.push_back(std::move(batch));
  changed_.notify_all();
}
void NcclProgress::end() {
  const std::lock_guard lock(mutex_);
  ending_ = true;
  changed_.notify_all();
}
void NcclProgress::abort() {
  const std::lock_guard lock(mutex_);
  aborted_ = true;
  if (transport_) transport_->stop();
  changed_.notify_all();
}
ncclResult_t NcclProgress::state(std::string* text) const {
  const std::lock_guard lock(mutex_);
  if (text) *text = text_;
  return state_;
}

void NcclProgress::run(const std::string& address) {
  try {
    connect(address);
    std::unique_lock lock(mutex_);
    state_ = ncclSuccess;
    while (true) {
      changed_.wait(lock, [&] { return aborted_ || ending_ || !batches_.empty(); });
      if (aborted_ || batches_.empty()) return;
      const auto batch = std::move(batches_.front());
      batches_.pop_front();
      lock.unlock();
      carry_out(*batch);
      batch->done = true;
      lock.lock();
    }
  } catch (const std::exception& error) {
    const auto* const known = dynamic_cast<const Error*>(&error);
    const std::lock_guard lock(mutex_);
    state_ = known ? result_of(known->fault()) : ncclInternalError;
    text_ = error.what();
  }
}

void NcclProgress::connect(const std::string& address) {
  if (ranks_ == 1) return;
  constexpr double kNoEnd = 1e6;  // NCCL waits until it is aborted
  auto transport = connect_sockets({.rank = rank_,
                                    .size = ranks_,
                                    .address = address,
                                    .key = "nccl",
                                    .rendezvous_seconds = kNoEnd,
                                    .peer_seconds = kNoEnd});
  {
    const std::lock_guard lock(mutex_);
    transport_ = std::move(transport);
    if (aborted_) transport_->stop();
  }
  // Two ranks on one device are refused by NCCL.
  std::vector<int> devices(static_cast<size_t>(ranks_), device_);
  std::vector<Outgoing> sends;
  std::vector<Incoming> receives;
  for (int r = 0; r < ranks_; ++r) {
    if (r == rank_) continue;
    sends.push_back({reinterpret_cast<const std::byte*>(&device_), sizeof device_, r});
    int& its = devices[static_cast<size_t>(r)];
    receives.push_back({reinterpret_cast<std::byte*>(&its), sizeof its, r});
  }
  transport_->exchange(sends, receives);
  for (size_t a = 0; a < devices.size(); ++a)
    for (size_t b = 0; b < a; ++b)
      CHECK_AS(Fault::usage, devices[a] != devices[b], "Duplicate GPU detected: rank ", b,
               " and rank ", a, " both on CUDA device ", devices[a]);
}

// All messages of a batch travel at once; those of a rank to another in the order of the calls.
void NcclProgress::carry_out(NcclBatch& batch) {
  const auto n = static_cast<size_t>(ranks_);
  std::vector<std::vector<Bytes>> out(batch.calls.size(), std::vector<Bytes>(n)), in = out;
  std::vector<Outgoing> sends;
  std::vector<Incoming> receives;
  const auto label_of = [](const NcclCall& call) {
    return Label{static_cast<unsigned char>(call.kind), static_cast<unsigned char>(call.type),
                 static_cast<unsigned char>(call.how), static_cast<unsigned char>(call.peer)};
  };
  for (size_t i = 0; i < batch.calls.size(); ++i) {
    const NcclCall& call = batch.calls[i];
    const Bytes& mine = batch.inputs[i];
    for (size_t r = 0; r < n; ++r) {
      const bool is_peer = static_cast<int>(r) == call.peer;
      if (static_cast<int>(r) == rank_ || (is_between_two(call.kind) && !is_peer)) continue;
      Bytes &to = out[i][r], &from = in[i][r];
      if (call.kind == NcclKind::send) {
        to = mine;
      } else if (call.kind == NcclKind::receive) {
        from.resize(call.bytes());
      } else {
        const bool scatters = call.kind == NcclKind::reduce_scatter;
        const bool gives = call.kind != NcclKind::broadcast || rank_ == call.peer;
        const bool takes = call.kind != NcclKind::broadcast || is_peer;
        to = labelled(label_of(call), mine.data() + (scatters ? r * call.bytes() : 0),
                      gives ? call.bytes() : 0);
        from.resize(sizeof(Label) + (takes ? call.bytes() : 0));
      }
      const auto peer = static_cast<int64_t>(r);
      if (!to.empty()) sends.push_back({to.data(), std::ssize(to), peer});
      if (!from.empty()) receives.push_back({from.data(), std::ssize(from), peer});
    }
  }
  if (transport_) transport_->exchange(sends, receives);
  for (size_t i = 0; i < batch.calls.size(); ++i) {
    const NcclCall& call = batch.calls[i];
    std::vector<Bytes>& arrived = in[i];
    for (size_t r = 0; r < n && !is_between_two(call.kind); ++r) {
      if (static_cast<int>(r) == rank_) continue;
      CHECK_AS(Fault::usage,
               arrived[r].size() >= sizeof(Label) &&
                   labelled(label_of(call), nullptr, 0) ==
                       Bytes(arrived[r].begin(), arrived[r].begin() + sizeof(Label)),
               call.name, ": rank ", r, " calls another one, or with another type, sum or root");
      arrived[r].erase(arrived[r].begin(), arrived[r].begin() + sizeof(Label));
    }
    batch.results.push_back(joined(call, batch.inputs[i], arrived));
  }
}

Bytes NcclProgress::joined(const NcclCall& call, const Bytes& mine,
                           const std::vector<Bytes>& arrived) const {
  const auto of = [&](size_t r) -> const Bytes& {
    return static_cast<int>(r) == rank_ ? mine : arrived[r];
  };
  Bytes result;
  switch (call.kind) {
    case NcclKind::send:
      break;
    case NcclKind::receive:
    case NcclKind::broadcast:
      result = of(static_cast<size_t>(call.peer));
      break;
    case NcclKind::all_gather:
      for (size_t r = 0; r < arrived.size(); ++r)
        result.insert(result.end(), of(r).begin(), of(r).end());
      break;
    case NcclKind::all_reduce:
    case NcclKind::reduce_scatter: {
      const bool scatters = call.kind == NcclKind::reduce_scatter;
      const std::byte* own =
          mine.data() + (scatters ? static_cast<size_t>(rank_) * call.bytes() : 0);
      const Bytes own_part(own, own + call.bytes());
      for (size_t r = 0; r < arrived.size(); ++r) {
        const Bytes& part = static_cast<int>(r) == rank_ ? own_part : arrived[r];
        if (r == 0)
          result = part;
        else
          join_into(call.type, call.how, result, part);
      }
      break;
    }
  }
  return result;
}

}  // namespace mullion::simt
