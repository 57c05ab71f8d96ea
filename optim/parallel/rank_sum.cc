// Buckets in the order in which gradients get complete; each is packed and sent when it is full.
#include "optim/parallel/rank_sum.h"

#include <algorithm>
#include <utility>

#include "autograd/engine.h"
#include "tensor/check.h"
#include "tensor/io/sha256.h"

namespace mullion {
namespace {

constexpr int64_t kAlign = 16;                       // elements: 64 bytes
constexpr int64_t kFirst = int64_t{256} << 10;       // elements of the first bucket
constexpr int64_t kLeastBytes = int64_t{256} << 10;  // of a bucket, below which latency counts

int64_t padded(int64_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

}  // namespace

std::vector<size_t> bucket_members(const std::vector<int64_t>& elements, int64_t bucket_bytes) {
  int64_t to_come = 0, before = 0, reached = 0, limit = 0;
  for (const int64_t n : elements) to_come += padded(n);
  std::vector<size_t> members;
  for (const int64_t n : elements) {
    if (members.empty() || 4 * reached >= limit) {
      members.push_back(0);
      before += std::exchange(reached, 0);
      limit = std::max(kLeastBytes, 4 * std::min(std::max(kFirst, before), to_come / 2));
      limit = std::min(limit, bucket_bytes);
    }
    ++members.back();
    reached += padded(n);
    to_come -= padded(n);
  }
  return members;
}

RankSum::RankSum(Communicator& ranks, std::vector<NamedParameter> parameters, int64_t passes,
                 RankSumOptions options)
    : StepRanks(ranks, passes, options.ranks_a_pass),
      parameters_(std::move(parameters)),
      options_(options),
      uses_(parameters_.size()),
      uses_so_far_(parameters_.size()) {
  for (size_t i = 0; i < parameters_.size(); ++i)
    places_.emplace(parameters_[i].value.grad_data().get(), i);
}

void RankSum::backward(const Tensor& loss) {
  const bool sends = ++pass_ == own_passes() && planned() && options_.overlap;
  std::fill(uses_so_far_.begin(), uses_so_far_.end(), 0);
  for (Bucket& bucket : buckets_) bucket.missing = std::ssize(bucket.members);
  {
    const LeafWatch watch([&](GradData& leaf) {
      const auto place = places_.find(&leaf);
      if (place == places_.end()) return;
      ++uses_so_far_[place->second];
      if (!planned()) order_.push_back(place->second);
      if (sends) seen(place->second);
    });
    mullion::backward(loss);
  }
  if (!planned()) plan();
  for (size_t i = 0; i < parameters_.size(); ++i) check_uses(i, false);
}

// A gradient that is not complete when it is sent would be a wrong sum without a word.
void RankSum::check_uses(size_t parameter, bool at_most) const {
  const int64_t now = uses_so_far_[parameter], before = uses_[parameter];
  CHECK(now == before || (at_most && now < before),
        "sums over ranks: ", parameters_[parameter].name, " is used ", now, " times in this pass, ",
        before, " times in the first one");
}

// One more use of it in a rank's last pass. Buckets leave in their order on all ranks.
void RankSum::seen(size_t parameter) {
  check_uses(parameter, true);
  if (uses_so_far_[parameter] < uses_[parameter]) return;
  for (size_t b = sent_; b < buckets_.size(); ++b) {
    const std::vector<size_t>& members = buckets_[b].members;
    if (std::find(members.begin(), members.end(), parameter) == members.end()) continue;
    --buckets_[b].missing;
    break;
  }
  while (sent_ < buckets_.size() && buckets_[sent_].missing == 0) send(buckets_[sent_++]);
}

// Buckets in the order in which gradients were complete in the first pass, the same on all ranks.
void RankSum::plan() {
  uses_ = uses_so_far_;
  std::vector<size_t> order;
  std::vector<bool> listed(parameters_.size());
  for (auto use = order_.rbegin(); use != order_.rend(); ++use)
    if (!listed[*use]) listed[*use] = true, order.push_back(*use);
  std::reverse(order.begin(), order.end());
  order_.clear();
  std::vector<int64_t> elements;
  std::string text;
  for (const size_t i : order) {
    elements.push_back(parameters_[i].value.numel());
    text += concat(parameters_[i].name, " ", uses_[i], "\n");
  }
  const std::vector<std::string> all = gather_texts(ranks_, sha256_hex(text));
  for (size_t r = 1; r < all.size(); ++r)
    CHECK_AS(Fault::usage, all[r] == all[0],
             "sums over ranks: ", ranks_.name(static_cast<int64_t>(r)),
             " has other gradients than ", ranks_.name(0), ", or in another order");
  CHECK(!order.empty(), "sums over ranks: no parameter has a gradient");
  auto next = order.begin();
  for (const size_t members : bucket_members(elements, options_.bucket_bytes)) {
    Bucket& bucket = buckets_.emplace_back();
    for (size_t i = 0; i < members; ++i) {
      bucket.members.push_back(*next);
      bucket.elements += padded(parameters_[*next++].value.numel());
    }
  }
}

// Into one piece of memory, which the sum goes through. The gradients are gone until finish().
void RankSum::send(Bucket& bucket) {
  const Device device = parameters_[bucket.members.front()].value.device();
  bucket.memory = Tensor::zeros({bucket.elements}, DType::f32, device);
  int64_t at = 0;
  for (const size_t i : bucket.members) {
    const Tensor& value = parameters_[i].value;
    const int64_t n = value.numel();
    raw::copy_into(grad(value),
                   raw::reshape(raw::slice(bucket.memory, 0, at, at + n), value.shape()));
    clear_grad(value);
    at += padded(n);
  }
  bucket.sum = ranks_.start_all_reduce(bucket.memory);
}

void RankSum::finish(std::vector<Tensor>& losses) {
  CHECK(pass_ == own_passes(), pass_, " passes of ", own_passes(), " on rank ", rank());
  pass_ = 0;
  while (sent_ < buckets_.size()) send(buckets_[sent_++]);
  sent_ = 0;
  share_losses(losses);
  for (Bucket& bucket : buckets_) {
    std::exchange(bucket.sum, nullptr)->wait();
    int64_t at = 0;
    for (const size_t i : bucket.members) {
      const Tensor& value = parameters_[i].value;
      value.grad_data()->grad =
          raw::reshape(raw::slice(bucket.memory, 0, at, at + value.numel()), value.shape());
      at += padded(value.numel());
    }
    bucket.memory = Tensor();
  }
}

}  // namespace mullion
