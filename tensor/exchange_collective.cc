// Shares and their sums, the thread that carries out what was begun, gathers as exchanges.
#include "tensor/exchange_collective.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <utility>

#include "tensor/check.h"
#include "tensor/collective_calls.h"
#include "tensor/collective_worker.h"

namespace mullion {
namespace {

// ------------------------------------------------------------------ sums of one share of all ranks

template <typename T>
struct Wide {
  using type = T;
};
template <>
struct Wide<bf16> {
  using type = float;
};

template <typename W>
W join(Reduce how, W a, W b) {
  if (how == Reduce::sum) return a + b;
  if (a != a || b != b) return a != a ? a : b;  // not a number stays that
  return how == Reduce::max ? std::max(a, b) : std::min(a, b);
}

template <typename T>
void join_parts(Reduce how, const std::vector<const std::byte*>& parts, int64_t n,
                std::byte* result) {
  using W = typename Wide<T>::type;
  constexpr int64_t kBlock = 1024;  // elements that stay in the cache
  W sum[kBlock];
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t count = std::min(kBlock, n - begin);
    for (size_t rank = 0; rank < parts.size(); ++rank) {
      const T* x = reinterpret_cast<const T*>(parts[rank]) + begin;
      if (rank == 0)
        for (int64_t i = 0; i < count; ++i) sum[i] = static_cast<W>(x[i]);
      else
        for (int64_t i = 0; i < count; ++i) sum[i] = join(how, sum[i], static_cast<W>(x[i]));
    }
    T* y = reinterpret_cast<T*>(result) + begin;
    for (int64_t i = 0; i < count; ++i) y[i] = static_cast<T>(sum[i]);
  }
}

void join_parts(DType type, Reduce how, const std::vector<const std::byte*>& parts, int64_t n,
                std::byte* result) {
  switch (type) {
    case DType::f32:
      return join_parts<float>(how, parts, n, result);
    case DType::f64:
      return join_parts<double>(how, parts, n, result);
    case DType::bf16:
      return join_parts<bf16>(how, parts, n, result);
    case DType::i32:
      return join_parts<int32_t>(how, parts, n, result);
    case DType::i64:
      return join_parts<int64_t>(how, parts, n, result);
    default:
      refuse_sum_of(type);
  }
}

// --------------------------------------------------------------------------------- the
// communicator

// In memory of the host: x itself, or a place for it that is filled where `filled`.
Tensor on_host(const Tensor& x, bool filled) {
  if (x.device().type == DeviceType::cpu) return x;
  return filled ? raw::to_device(x, Device{}) : Tensor::empty(x.shape(), x.dtype());
}

void give_back(const Tensor& host, const Tensor& x) {
  if (!host.is_same(x)) raw::copy_into(host, x);
}

class ExchangePending : public PendingCollective {
 public:
  // `finish` runs in wait(), when the task is done.
  ExchangePending(std::shared_ptr<CollectiveWorker> worker, int64_t task,
                  std::function<void()> finish)
      : worker_(std::move(worker)), task_(task), finish_(std::move(finish)) {}
  void wait() override {
    if (task_ > 0) worker_->wait(task_);
    if (finish_) finish_();
  }

 private:
  std::shared_ptr<CollectiveWorker> worker_;
  int64_t task_;
  std::function<void()> finish_;
};

class ExchangeCommunicator : public Communicator {
 public:
  // `members`: the ranks of the transport, in the order of this group; `mine`: this one's place.
  ExchangeCommunicator(std::shared_ptr<CollectiveWorker> worker, std::vector<int64_t> members,
                       int64_t mine)
      : worker_(std::move(worker)),
        members_(std::move(members)),
        rank_(mine),
        calls_(rank_, std::ssize(members_)) {}

  int64_t rank() const override { return rank_; }
  int64_t size() const override { return std::ssize(members_); }
  std::string name(int64_t rank) const override {
    return concat("rank ", rank, " of ", size(), " (node ", transport().node(member(rank)), ")");
  }

  void all_reduce(Tensor& x, Reduce how) override { begin_all_reduce(x, how)->wait(); }
  std::unique_ptr<PendingCollective> start_all_reduce(Tensor& x) override {
    return begin_all_reduce(x, Reduce::sum);
  }

  void reduce_scatter(const Tensor& whole, Tensor& part) override {
    calls_.reduce_scatter(whole, part);
    const Tensor host = on_host(whole, true), mine = on_host(part, false);
    const int64_t n = part.numel(), width = size_of(part.dtype());
    const auto* from = bytes_of(host);
    auto* to = bytes_to_write(mine);
    run([this, from, to, n, type = part.dtype(), width] {
      reduce_share(type, Reduce::sum, from, n, rank_ * n, n, width, to);
    });
    give_back(mine, part);
  }

  void all_gather(const Tensor& part, Tensor& whole) override {
    start_all_gather(part, whole)->wait();
  }
  std::unique_ptr<PendingCollective> start_all_gather(const Tensor& part, Tensor& whole) override {
    calls_.all_gather(part, whole);
    const Tensor mine = on_host(part, true), host = on_host(whole, false);
    const int64_t bytes = part.bytes();
    const auto* from = bytes_of(mine);
    auto* to = bytes_to_write(host);
    return start(
        [this, mine, host, from, to, bytes] {
          if (bytes > 0) std::memmove(to + rank_ * bytes, from, static_cast<size_t>(bytes));
          share(to, [bytes](int64_t rank) { return std::pair(rank * bytes, bytes); });
        },
        [host, whole] { give_back(host, whole); });
  }

  void broadcast(Tensor& x, int64_t root) override {
    calls_.broadcast(x, root);
    const Tensor host = on_host(x, true);
    const int64_t bytes = x.bytes();
    auto* data = bytes_to_write(host);
    run([this, data, bytes, root] {
      std::vector<Outgoing> sends;
      std::vector<Incoming> receives;
      for (int64_t r = 0; r < size() && rank_ == root; ++r)
        if (r != root) sends.push_back({data, bytes, r});
      if (rank_ != root) receives.push_back({data, bytes, root});
      travel(sends, receives);
    });
    give_back(host, x);
  }

  void exchange(const std::vector<Message>& sends, const std::vector<Message>& receives) override {
    start_exchange(sends, receives)->wait();
  }
  std::unique_ptr<PendingCollective> start_exchange(const std::vector<Message>& sends,
                                                    const std::vector<Message>& receives) override {
    calls_.exchange(sends, receives);
    std::vector<Tensor> held;
    std::vector<std::pair<Tensor, Tensor>> arrivals;
    std::vector<Outgoing> out;
    std::vector<Incoming> in;
    for (const Message& m : sends) {
      held.push_back(on_host(m.tensor, true));
      out.push_back({bytes_of(held.back()), m.tensor.bytes(), m.peer});
    }
    for (const Message& m : receives) {
      arrivals.emplace_back(on_host(m.tensor, false), m.tensor);
      in.push_back({bytes_to_write(arrivals.back().first), m.tensor.bytes(), m.peer});
    }
    return start([this, held, out, in] { travel(out, in); },
                 [arrivals] {
                   for (const auto& [host, x] : arrivals) give_back(host, x);
                 });
  }

  void barrier() override {
    const Tensor mine = Tensor::zeros({1}, DType::u8);
    Tensor all = Tensor::empty({size()}, DType::u8);
    const SentBytes before = calls_.sent;
    all_gather(mine, all);
    calls_.sent = before;  // carries nothing
  }

  void check_peers() override {
    run([this] { transport().look(members_); });
  }

  void abandon(const std::string& why) noexcept override { worker_->abandon(why); }

  std::unique_ptr<Communicator> split(int64_t colour) override {
    const Tensor mine = Tensor::full({1}, static_cast<double>(colour), DType::i64);
    Tensor all = Tensor::empty({size()}, DType::i64);
    const SentBytes before = calls_.sent;
    all_gather(mine, all);
    calls_.sent = before;
    const auto colours = all.to_vector<int64_t>();
    std::vector<int64_t> members;
    int64_t place = 0;
    for (int64_t r = 0; r < size(); ++r) {
      if (colours[static_cast<size_t>(r)] != colour) continue;
      if (r == rank_) place = std::ssize(members);
      members.push_back(member(r));
    }
    return std::make_unique<ExchangeCommunicator>(worker_, std::move(members), place);
  }

  SentBytes sent() const override { return calls_.sent; }

 private:
  Transport& transport() const { return worker_->transport(); }
  int64_t member(int64_t rank) const { return members_[static_cast<size_t>(rank)]; }
  static const std::byte* bytes_of(const Tensor& x) {
    const void* data = x.data<void>();
    return static_cast<const std::byte*>(data);
  }
  static std::byte* bytes_to_write(const Tensor& x) {
    void* data = x.data<void>();
    return static_cast<std::byte*>(data);
  }

  std::unique_ptr<PendingCollective> start(std::function<void()> task,
                                           std::function<void()> finish = {}) {
    return std::make_unique<ExchangePending>(worker_, worker_->add(std::move(task)),
                                             std::move(finish));
  }
  void run(std::function<void()> task) { worker_->wait(worker_->add(std::move(task))); }

  std::unique_ptr<PendingCollective> begin_all_reduce(Tensor& x, Reduce how) {
    calls_.all_reduce(x);
    const Tensor host = on_host(x, true);
    const int64_t n = x.numel(), width = size_of(x.dtype());
    auto* data = bytes_to_write(host);
    return start(
        [this, host, data, n, width, how, type = x.dtype()] {
          const int64_t share_of = (n + size() - 1) / size();
          const auto range = [&](int64_t rank) {
            const int64_t begin = std::min(n, rank * share_of);
            return std::pair(begin, std::min(n, begin + share_of) - begin);
          };
          const auto [begin, count] = range(rank_);
          reduce_share(type, how, data, share_of, begin, count, width, data + begin * width, n);
          share(data, [&](int64_t rank) {
            const auto [first, elements] = range(rank);
            return std::pair(first * width, elements * width);
          });
        },
        [host, x] { give_back(host, x); });
  }

  // Into `result`, the sum of the elements [begin, begin + count) of all ranks. The share of rank r
  // is the elements from r * stride, up to `end` (-1: all of the same size).
  void reduce_share(DType type, Reduce how, const std::byte* data, int64_t stride, int64_t begin,
                    int64_t count, int64_t width, std::byte* result, int64_t end = -1) {
    // Of the allocator, whose figures of memory it is in.
    const Tensor arrived = Tensor::empty({(size() - 1) * count * width}, DType::u8);
    std::vector<const std::byte*> parts(members_.size());
    std::vector<Outgoing> sends;
    std::vector<Incoming> receives;
    std::byte* next = bytes_to_write(arrived);
    for (int64_t r = 0; r < size(); ++r) {
      if (r == rank_) {
        parts[static_cast<size_t>(r)] = data + begin * width;
        continue;
      }
      const int64_t first = end < 0 ? r * stride : std::min(end, r * stride);
      const int64_t elements = end < 0 ? stride : std::min(end, first + stride) - first;
      sends.push_back({data + first * width, elements * width, r});
      receives.push_back({next, count * width, r});
      parts[static_cast<size_t>(r)] = next;
      next += count * width;
    }
    travel(sends, receives);
    join_parts(type, how, parts, count, result);
  }

  // Each rank's bytes range(rank) = (begin, size) of `data` to all others.
  template <typename Range>
  void share(std::byte* data, const Range& range) {
    std::vector<Outgoing> sends;
    std::vector<Incoming> receives;
    for (int64_t r = 0; r < size(); ++r) {
      if (r == rank_) continue;
      const auto [begin, bytes] = range(rank_);
      sends.push_back({data + begin, bytes, r});
      const auto [other, other_bytes] = range(r);
      receives.push_back({data + other, other_bytes, r});
    }
    travel(sends, receives);
  }

  // In the worker's thread. Peers are ranks of this group; messages to oneself are copies, empty
  // ones do not travel.
  void travel(const std::vector<Outgoing>& sends, const std::vector<Incoming>& receives) {
    std::vector<Outgoing> out;
    std::vector<Incoming> in;
    std::deque<Outgoing> own;
    for (const Outgoing& m : sends) {
      if (m.peer == rank_)
        own.push_back(m);
      else if (m.bytes > 0)
        out.push_back({m.data, m.bytes, member(m.peer)});
    }
    for (const Incoming& m : receives) {
      if (m.peer != rank_) {
        if (m.bytes > 0) in.push_back({m.data, m.bytes, member(m.peer)});
        continue;
      }
      CHECK_AS(Fault::usage, !own.empty() && own.front().bytes == m.bytes,
               "exchange: a message to oneself of another size, or none");
      if (m.bytes > 0) std::memmove(m.data, own.front().data, static_cast<size_t>(m.bytes));
      own.pop_front();
    }
    CHECK_AS(Fault::usage, own.empty(), "exchange: a message to oneself is not received");
    if (!out.empty() || !in.empty()) transport().exchange(out, in);
  }

  std::shared_ptr<CollectiveWorker> worker_;
  std::vector<int64_t> members_;
  int64_t rank_;
  CollectiveCalls calls_;
};

}  // namespace

std::unique_ptr<Communicator> make_communicator(std::unique_ptr<Transport> transport) {
  std::vector<int64_t> members;
  for (int64_t r = 0; r < transport->size(); ++r) members.push_back(r);
  const int64_t rank = transport->rank();
  return std::make_unique<ExchangeCommunicator>(
      std::make_shared<CollectiveWorker>(std::move(transport)), std::move(members), rank);
}

std::vector<std::string> gather_texts(Communicator& ranks, const std::string& mine) {
  const auto n = static_cast<size_t>(ranks.size());
  const Tensor length = Tensor::from(std::vector<int64_t>{std::ssize(mine)}, {1});
  Tensor lengths = Tensor::empty({ranks.size()}, DType::i64);
  ranks.all_gather(length, lengths);
  const auto sizes = lengths.to_vector<int64_t>();
  const int64_t longest = *std::max_element(sizes.begin(), sizes.end());
  const Tensor part = Tensor::zeros({longest}, DType::u8);
  if (!mine.empty()) {
    uint8_t* bytes = part.data<uint8_t>();
    std::copy(mine.begin(), mine.end(), bytes);
  }
  Tensor whole = Tensor::empty({ranks.size() * longest}, DType::u8);
  ranks.all_gather(part, whole);
  const uint8_t* all = whole.data<uint8_t>();
  std::vector<std::string> texts;
  for (size_t r = 0; r < n; ++r)
    texts.emplace_back(reinterpret_cast<const char*>(all) + static_cast<int64_t>(r) * longest,
                       static_cast<size_t>(sizes[r]));
  return texts;
}

}  // namespace mullion
