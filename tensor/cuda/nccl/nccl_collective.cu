// A Communicator whose tensors go from GPU to GPU by NCCL; what lies in memory of the host goes by
// the communicator that this one is made around, which carries NCCL's id as well and knows who of
// the ranks lives. Sums in floating point are NCCL's: in an order that depends on the ranks, their
// links and the size, the same in every run and on all ranks; of bf16 each addition may be rounded.
// The largest and smallest of floating-point numbers go through memory of the host, because NCCL's
// do not keep what is not a number.
#include <utility>

#include "tensor/cuda/nccl/nccl_library.h"
#include "tensor/device_collective.h"

#ifdef MULLION_HAVE_NCCL
#include <deque>

#include "tensor/check.h"
#include "tensor/collective_calls.h"
#include "tensor/cuda/nccl/nccl_comm.h"
#include "tensor/cuda/runtime/runtime.h"
#endif

namespace mullion::cuda {
namespace {

#ifdef MULLION_HAVE_NCCL

ncclDataType_t summed_type(DType type) {
  switch (type) {
    case DType::f32:
      return ncclFloat32;
    case DType::f64:
      return ncclFloat64;
    case DType::bf16:
      return ncclBfloat16;
    case DType::i32:
      return ncclInt32;
    case DType::i64:
      return ncclInt64;
    default:
      refuse_sum_of(type);
  }
}

ncclRedOp_t operation(Reduce how) {
  return how == Reduce::sum ? ncclSum : how == Reduce::max ? ncclMax : ncclMin;
}

const void* read(const Tensor& x) { return x.data<void>(); }
void* write(const Tensor& x) { return x.data<void>(); }
size_t size(const Tensor& x) { return static_cast<size_t>(x.bytes()); }
size_t count(const Tensor& x) { return static_cast<size_t>(x.numel()); }

// Keeps the tensors until the collective is done, or the computing stream waits for that.
class NcclPending : public PendingCollective {
 public:
  NcclPending(std::shared_ptr<NcclComm> comm, const char* op, std::unique_ptr<Event> done,
              std::vector<Tensor> used)
      : comm_(std::move(comm)), op_(op), done_(std::move(done)), used_(std::move(used)) {}
  ~NcclPending() override {
    if (!done_) return;
    try {
      const CurrentDevice current(comm_->device());
      done_->holds_back(current_stream());
    } catch (const Error&) {  // an end in disorder
    }
  }
  void wait() override {
    if (!done_) return;
    comm_->wait(op_, *done_);
    done_.reset();
  }

 private:
  std::shared_ptr<NcclComm> comm_;
  const char* op_;
  std::unique_ptr<Event> done_;  // null: there was nothing to do, or it has been waited for
  std::vector<Tensor> used_;
};

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(std::shared_ptr<Communicator> host, std::shared_ptr<CollectiveStream> stream)
      : host_(std::move(host)),
        stream_(std::move(stream)),
        comm_(std::make_shared<NcclComm>(host_, stream_)),
        calls_(host_->rank(), host_->size()) {}

  int64_t rank() const override { return host_->rank(); }
  int64_t size() const override { return host_->size(); }
  std::string name(int64_t rank) const override { return host_->name(rank); }

  void all_reduce(Tensor& x, Reduce how) override {
    if (!is_here(x) || (how != Reduce::sum && is_float(x.dtype())))
      return host_->all_reduce(x, how);
    begin_all_reduce(x, how)->wait();
  }
  std::unique_ptr<PendingCollective> start_all_reduce(Tensor& x) override {
    return is_here(x) ? begin_all_reduce(x, Reduce::sum) : host_->start_all_reduce(x);
  }

  void reduce_scatter(const Tensor& whole, Tensor& part) override {
    if (!are_here("reduce_scatter", whole, part)) return host_->reduce_scatter(whole, part);
    calls_.reduce_scatter(whole, part);
    const ncclDataType_t type = summed_type(part.dtype());
    begin("reduce_scatter", part.bytes() > 0, {whole, part}, [&](ncclComm_t comm, cudaStream_t s) {
      comm_->check(ncclReduceScatter(read(whole), write(part), count(part), type, ncclSum, comm, s),
                   "ncclReduceScatter");
    })->wait();
  }

  void all_gather(const Tensor& part, Tensor& whole) override {
    start_all_gather(part, whole)->wait();
  }
  std::unique_ptr<PendingCollective> start_all_gather(const Tensor& part, Tensor& whole) override {
    if (!are_here("all_gather", part, whole)) return host_->start_all_gather(part, whole);
    calls_.all_gather(part, whole);
    return begin(
        "all_gather", part.bytes() > 0, {part, whole}, [&](ncclComm_t comm, cudaStream_t s) {
          comm_->check(
              ncclAllGather(read(part), write(whole), cuda::size(part), ncclUint8, comm, s),
              "ncclAllGather");
        });
  }

  void broadcast(Tensor& x, int64_t root) override {
    if (!is_here(x)) return host_->broadcast(x, root);
    calls_.broadcast(x, root);
    begin("broadcast", x.bytes() > 0, {x}, [&](ncclComm_t comm, cudaStream_t s) {
      comm_->check(ncclBroadcast(read(x), write(x), cuda::size(x), ncclUint8,
                                 static_cast<int>(root), comm, s),
                   "ncclBroadcast");
    })->wait();
  }

  void exchange(const std::vector<Message>& sends, const std::vector<Message>& receives) override {
    start_exchange(sends, receives)->wait();
  }
  std::unique_ptr<PendingCollective> start_exchange(const std::vector<Message>& sends,
                                                    const std::vector<Message>& receives) override {
    std::vector<Tensor> used;
    size_t here = 0;
    for (const auto* messages : {&sends, &receives})
      for (const Message& m : *messages) {
        used.push_back(m.tensor);
        here += is_here(m.tensor);
      }
    CHECK_AS(Fault::usage, here == 0 || here == used.size(),
             "exchange: messages of the host and of the device in one call");
    if (here == 0) return host_->start_exchange(sends, receives);
    calls_.exchange(sends, receives);
    return begin("exchange", true, std::move(used), [&](ncclComm_t comm, cudaStream_t stream) {
      exchange_with_oneself(sends, receives, stream);
      comm_->check(ncclGroupStart(), "ncclGroupStart");
      // A group that has begun must end, of the thread's later calls too: errors come after it.
      ncclResult_t first = ncclSuccess;
      const char* call = "";
      const auto keep = [&](ncclResult_t result, const char* its_call) {
        if (first != ncclSuccess || result == ncclInProgress) return;
        first = result;
        call = its_call;
      };
      for (const Message& m : sends)
        if (m.peer != rank() && m.tensor.bytes() > 0)
          keep(ncclSend(read(m.tensor), cuda::size(m.tensor), ncclUint8, static_cast<int>(m.peer),
                        comm, stream),
               "ncclSend");
      for (const Message& m : receives)
        if (m.peer != rank() && m.tensor.bytes() > 0)
          keep(ncclRecv(write(m.tensor), cuda::size(m.tensor), ncclUint8, static_cast<int>(m.peer),
                        comm, stream),
               "ncclRecv");
      keep(ncclGroupEnd(), "ncclGroupEnd");
      comm_->check(first, call);
    });
  }

  void barrier() override { host_->barrier(); }
  void check_peers() override { host_->check_peers(); }
  void abandon(const std::string& why) noexcept override {
    host_->abandon(why);  // first, so that the others hear why
    comm_->abort();
  }

  std::unique_ptr<Communicator> split(int64_t colour) override {
    return std::make_unique<NcclCommunicator>(host_->split(colour), stream_);
  }

  SentBytes sent() const override {
    SentBytes all = host_->sent();
    all.reduced += calls_.sent.reduced;
    all.scattered += calls_.sent.scattered;
    all.gathered += calls_.sent.gathered;
    all.broadcast += calls_.sent.broadcast;
    all.exchanged += calls_.sent.exchanged;
    return all;
  }

 private:
  // Whether NCCL carries it; what lies on the host does not concern it.
  bool is_here(const Tensor& x) const {
    if (x.device().type == DeviceType::cpu) return false;
    CHECK_AS(Fault::usage, x.device().index == comm_->device(),
             "collective: a tensor of cuda:", x.device().index,
             ", and this rank computes on cuda:", comm_->device());
    return true;
  }

  bool are_here(const char* op, const Tensor& x, const Tensor& y) const {
    const bool here = is_here(x);
    CHECK_AS(Fault::usage, here == is_here(y), op,
             ": tensors of the host and of the device in one call");
    return here;
  }

  std::unique_ptr<PendingCollective> begin(const char* op, bool anything, std::vector<Tensor> used,
                                           const NcclComm::Calls& calls) {
    std::unique_ptr<Event> done = anything ? comm_->queue(op, calls) : nullptr;
    return std::make_unique<NcclPending>(comm_, op, std::move(done), std::move(used));
  }
  std::unique_ptr<PendingCollective> begin_all_reduce(const Tensor& x, Reduce how) {
    calls_.all_reduce(x);
    const ncclDataType_t type = summed_type(x.dtype());
    return begin("all_reduce", x.bytes() > 0, {x}, [&](ncclComm_t comm, cudaStream_t s) {
      comm_->check(ncclAllReduce(read(x), write(x), count(x), type, operation(how), comm, s),
                   "ncclAllReduce");
    });
  }

  void exchange_with_oneself(const std::vector<Message>& sends,
                             const std::vector<Message>& receives, cudaStream_t stream) const {
    std::deque<Tensor> own;
    for (const Message& m : sends)
      if (m.peer == rank()) own.push_back(m.tensor);
    for (const Message& m : receives) {
      if (m.peer != rank()) continue;
      CHECK_AS(Fault::usage, !own.empty() && own.front().bytes() == m.tensor.bytes(),
               "exchange: a message to oneself of another size, or none");
      CUDA_CHECK(cudaMemcpyAsync(write(m.tensor), read(own.front()), cuda::size(m.tensor),
                                 cudaMemcpyDeviceToDevice, stream));
      own.pop_front();
    }
    CHECK_AS(Fault::usage, own.empty(), "exchange: a message to oneself is not received");
  }

  std::shared_ptr<Communicator> host_;
  std::shared_ptr<CollectiveStream> stream_;
  std::shared_ptr<NcclComm> comm_;
  CollectiveCalls calls_;
};

std::unique_ptr<Communicator> make(std::shared_ptr<Communicator> host, int index) {
  nccl_version();  // or the reason why there is none
  return std::make_unique<NcclCommunicator>(std::move(host),
                                            std::make_shared<CollectiveStream>(index));
}

#else
std::unique_ptr<Communicator> make(std::shared_ptr<Communicator>, int) {
  nccl_version();  // throws
  return nullptr;
}
#endif

constexpr DeviceCollectives kCollectives = {.describe = nccl_version, .make = make};

struct Registration {
  Registration() { register_collectives(DeviceType::cuda, kCollectives); }
} registration;

}  // namespace
}  // namespace mullion::cuda
