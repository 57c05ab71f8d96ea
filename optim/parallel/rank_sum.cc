#include "optim/parallel/rank_sum.h"

#include <memory>
#include <utility>

#include "autograd/node.h"
#include "tensor/check.h"

namespace mullion {
namespace {

constexpr int64_t kAlign = 16;  // elements: 64 bytes

int64_t padded(int64_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

// Some gradients, in one piece of memory that the sum goes through.
struct Bucket {
  std::vector<Tensor> values;  // whose gradients
  Tensor memory;
  std::unique_ptr<PendingCollective> sum;
};

void pack(Bucket& bucket, int64_t elements) {
  const Tensor& first = bucket.values.front();
  bucket.memory = Tensor::zeros({elements}, DType::f32, first.device());
  int64_t at = 0;
  for (const Tensor& value : bucket.values) {
    const int64_t n = value.numel();
    // From now on the gradient is its place in the bucket.
    const Tensor place = raw::reshape(raw::slice(bucket.memory, 0, at, at + n), value.shape());
    raw::copy_into(grad(value), place);
    value.grad_data()->grad = place;
    at += padded(n);
  }
}

}  // namespace

int64_t passes_of_rank(int64_t passes, int64_t rank, int64_t ranks) {
  if (passes < ranks)
    throw Error(concat(ranks, " ranks for ", passes, passes == 1 ? " pass" : " passes",
                       " a step: a rank makes whole passes (--grad-accum-steps)"),
                Fault::usage,
                "a smaller --batch-size and as many times more --grad-accum-steps: the same step");
  return (passes - rank + ranks - 1) / ranks;
}

RankSum::RankSum(Communicator& ranks, int64_t passes, int64_t bucket_bytes, int64_t ranks_a_pass)
    : ranks_(ranks),
      passes_(passes),
      bucket_bytes_(bucket_bytes),
      group_(ranks.rank() / ranks_a_pass),
      groups_(ranks.size() / ranks_a_pass) {
  passes_of_rank(passes, group_, groups_);  // there are enough
}

void RankSum::operator()(std::vector<Tensor>& losses,
                         const std::vector<NamedParameter>& parameters) const {
  CHECK(std::ssize(losses) == passes_of_rank(passes_, group_, groups_), losses.size(),
        " passes on rank ", ranks_.rank());
  const Device device = losses.front().device();
  Tensor all_losses = Tensor::zeros({passes_}, DType::f32, device);
  const auto loss_of = [&](int64_t pass) {
    return raw::reshape(raw::slice(all_losses, 0, pass, pass + 1), {});
  };
  for (int64_t i = 0; i < std::ssize(losses); ++i)
    raw::copy_into(raw::reshape(losses[static_cast<size_t>(i)], {}), loss_of(group_ + i * groups_));
  auto loss_sum = ranks_.start_all_reduce(all_losses);

  std::vector<Bucket> buckets;
  Bucket open;
  int64_t elements = 0;
  const auto send = [&] {
    if (open.values.empty()) return;
    pack(open, elements);
    open.sum = ranks_.start_all_reduce(open.memory);
    buckets.push_back(std::exchange(open, {}));
    elements = 0;
  };
  // The last layers' gradients first: in the order in which a backward pass gives them.
  for (auto p = parameters.rbegin(); p != parameters.rend(); ++p) {
    if (!grad(p->value).defined()) continue;
    open.values.push_back(p->value);
    elements += padded(p->value.numel());
    if (4 * elements >= bucket_bytes_) send();
  }
  send();
  loss_sum->wait();
  for (Bucket& bucket : buckets) bucket.sum->wait();
  losses.clear();
  for (int64_t pass = 0; pass < passes_; ++pass) losses.push_back(loss_of(pass));
}

}  // namespace mullion
