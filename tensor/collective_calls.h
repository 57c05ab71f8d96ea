// What every Communicator does with a call before it begins: checks what it is given, and counts
// what an algorithm that moves the least would send.
#pragma once
#include "tensor/collective.h"

namespace mullion {

class CollectiveCalls {
 public:
  CollectiveCalls(int64_t rank, int64_t size) : rank_(rank), size_(size) {}

  // Each throws Error(usage) that names the call and the values.
  void all_reduce(const Tensor& x);
  void reduce_scatter(const Tensor& whole, const Tensor& part);
  void all_gather(const Tensor& part, const Tensor& whole);
  void broadcast(const Tensor& x, int64_t root);
  void exchange(const std::vector<Message>& sends, const std::vector<Message>& receives);

  SentBytes sent;

 private:
  void check_parts(const char* call, const Tensor& part, const Tensor& whole) const;
  void check_message(const Message& m) const;
  int64_t rank_, size_;
};

// Error(usage): no communicator adds up elements of this type.
[[noreturn]] void refuse_sum_of(DType type);

}  // namespace mullion
