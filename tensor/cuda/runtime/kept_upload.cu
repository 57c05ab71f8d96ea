// Found by their bytes; the lists used last are kept, in memory that outlives their kernels.
#include "tensor/cuda/runtime/kept_upload.h"

#include <algorithm>
#include <cstring>
#include <list>
#include <mutex>

#include "tensor/cuda/runtime/runtime.h"

namespace mullion::cuda {
namespace {

constexpr size_t kKept = 8;  // a step has three: gradients, parameters, averages

struct Kept {
  int device = 0;
  std::vector<char> bytes;
  std::shared_ptr<Storage> memory;
};

}  // namespace

std::shared_ptr<Storage> kept_upload(const void* bytes, int64_t n) {
  static std::mutex mutex;
  static auto* const kept = new std::list<Kept>;  // the last used first; outlives main()
  const std::lock_guard lock(mutex);
  const int device = current_device();
  const auto size = static_cast<size_t>(n);
  const auto found = std::find_if(kept->begin(), kept->end(), [&](const Kept& k) {
    return k.device == device && k.bytes.size() == size &&
           (n == 0 || std::memcmp(k.bytes.data(), bytes, size) == 0);
  });
  if (found != kept->end()) {
    kept->splice(kept->begin(), *kept, found);
    return kept->front().memory;
  }
  Kept fresh{device, {}, nullptr};
  if (kept->size() >= kKept) {
    // What is queued reads the memory before the new bytes come, unless somebody holds it who has
    // yet to queue his kernel.
    Kept& oldest = kept->back();
    const bool fits = oldest.device == device && oldest.memory->bytes() == n;
    if (fits && oldest.memory.use_count() == 1) fresh.memory = std::move(oldest.memory);
    kept->pop_back();
  }
  if (!fresh.memory) fresh.memory = std::make_shared<Storage>(n, Device{DeviceType::cuda, device});
  upload(fresh.memory->data(), bytes, n, device);
  const auto* first = static_cast<const char*>(bytes);
  fresh.bytes.assign(first, first + size);
  kept->push_front(std::move(fresh));
  return kept->front().memory;
}

}  // namespace mullion::cuda
