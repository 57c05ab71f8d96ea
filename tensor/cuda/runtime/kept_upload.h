// Lists that a kernel reads and that seldom change from one step to the next: sent once, and again
// when they differ.
#pragma once
#include <memory>
#include <type_traits>
#include <vector>

#include "tensor/storage.h"

namespace mullion::cuda {

// The bytes in memory of the current device, where they stay for kernels queued while the result
// is held. Kept while among the last used.
std::shared_ptr<Storage> kept_upload(const void* bytes, int64_t n);

// Of structs without padding, whose bytes say whether they are the same.
template <typename T>
std::shared_ptr<Storage> kept_upload(const std::vector<T>& list) {
  static_assert(std::has_unique_object_representations_v<T>);
  return kept_upload(list.data(), static_cast<int64_t>(list.size() * sizeof(T)));
}

}  // namespace mullion::cuda
