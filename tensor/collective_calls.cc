// A check and a count for each call, then the algorithm of the class below.
#include "tensor/collective_calls.h"

#include "tensor/check.h"

namespace mullion {
namespace {

void check_contiguous(const char* call, const Tensor& x) {
  CHECK_AS(Fault::usage, x.is_contiguous(), call, ": a strided view");
}

}  // namespace

void CollectiveCalls::all_reduce(const Tensor& x) {
  check_contiguous("all_reduce", x);
  sent.reduced += 2 * (size_ - 1) * x.bytes() / size_;
}

void CollectiveCalls::reduce_scatter(const Tensor& whole, const Tensor& part) {
  check_parts("reduce_scatter", part, whole);
  sent.scattered += (size_ - 1) * part.bytes();
}

void CollectiveCalls::all_gather(const Tensor& part, const Tensor& whole) {
  check_parts("all_gather", part, whole);
  sent.gathered += (size_ - 1) * part.bytes();
}

void CollectiveCalls::broadcast(const Tensor& x, int64_t root) {
  check_contiguous("broadcast", x);
  CHECK_AS(Fault::usage, root >= 0 && root < size_, "broadcast: root ", root, " of ", size_);
  if (rank_ == root) sent.broadcast += (size_ - 1) * x.bytes();
}

void CollectiveCalls::exchange(const std::vector<Message>& sends,
                               const std::vector<Message>& receives) {
  for (const Message& m : receives) check_message(m);
  for (const Message& m : sends) {
    check_message(m);
    if (m.peer != rank_) sent.exchanged += m.tensor.bytes();
  }
}

void CollectiveCalls::check_message(const Message& m) const {
  check_contiguous("exchange", m.tensor);
  CHECK_AS(Fault::usage, m.peer >= 0 && m.peer < size_, "exchange: peer ", m.peer, " of ", size_);
}

void CollectiveCalls::check_parts(const char* call, const Tensor& part, const Tensor& whole) const {
  check_contiguous(call, part);
  check_contiguous(call, whole);
  CHECK_AS(Fault::usage, part.dtype() == whole.dtype(), call, ": types ", name_of(part.dtype()),
           " and ", name_of(whole.dtype()));
  CHECK_AS(Fault::usage, whole.numel() == size_ * part.numel(), call, ": ", whole.numel(),
           " elements are not ", size_, " x ", part.numel());
}

void refuse_sum_of(DType type) {
  fail(Fault::usage, "reduce: elements of type ", name_of(type), " are not added up");
}

}  // namespace mullion
