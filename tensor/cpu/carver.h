// How a kernel that needs many arrays cuts them out of one piece of scratch memory.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "tensor/scratch.h"

namespace mullion::cpu {

// Cuts aligned arrays out of one buffer; with a null buffer it only counts. Lay out twice with one
// function: first to learn the size, then to get the pointers.
class Carver {
 public:
  static constexpr size_t kAlignment = 64;

  explicit Carver(void* base) : base_(static_cast<std::byte*>(base)) {}
  template <typename T>
  T* take(int64_t count) {
    T* p = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    const size_t bytes = static_cast<size_t>(std::max<int64_t>(count, 0)) * sizeof(T);
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return p;
  }
  size_t used() const { return used_; }

 private:
  std::byte* base_;
  size_t used_ = 0;
};

// The calling thread's scratch memory, cut by layout(carver), which it calls twice.
template <typename Layout>
void carve_scratch(Layout&& layout) {
  Carver count(nullptr);
  layout(count);
  Carver take(thread_scratch((count.used() + sizeof(float) - 1) / sizeof(float), 0));
  layout(take);
}

}  // namespace mullion::cpu
