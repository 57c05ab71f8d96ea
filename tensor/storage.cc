// The CPU allocator: a best-fit cache of freed blocks, bounded, with huge pages asked for where a
// block is large. Every figure it keeps is under one mutex; tensors are few and large.
#include "tensor/storage.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "tensor/backend.h"
#include "tensor/check.h"

namespace mullion {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kHugePage = 2 << 20;
constexpr int64_t kSmallBlock = 64 << 10;  // below it malloc's own cache is good enough
// Freed blocks are kept as long as, with the live ones, they stay below the most that was ever live
// plus this: a training step then finds every block of the step before, and no memory is held that
// was not needed once.
constexpr int64_t kSlack = 64 << 20;

struct Cache {
  std::mutex mutex;
  std::multimap<int64_t, std::byte*> freed;  // by capacity
  int64_t cached = 0, most_live = 0;
  MemoryUse use;
};
Cache& cache() {
  static Cache* the_cache = new Cache;  // never destroyed: tensors may outlive main
  return *the_cache;
}
std::atomic<bool> poison{false};

std::byte* fresh_block(int64_t capacity) {
  const int64_t alignment = capacity >= kHugePage ? kHugePage : kAlignment;
  void* block = std::aligned_alloc(static_cast<size_t>(alignment), static_cast<size_t>(capacity));
  if (block && capacity >= kHugePage) madvise(block, static_cast<size_t>(capacity), MADV_HUGEPAGE);
  return static_cast<std::byte*>(block);
}

int64_t rounded_up(int64_t bytes) {
  const int64_t unit = bytes >= 4 * kHugePage ? kHugePage
                       : bytes >= kSmallBlock ? 4096
                                              : kAlignment;
  const int64_t rounded = (bytes + unit - 1) / unit * unit;
  return rounded >= kHugePage ? (rounded + kHugePage - 1) / kHugePage * kHugePage : rounded;
}

}  // namespace

Storage::Storage(int64_t bytes, Device device) : bytes_(bytes), device_(device) {
  kernels(device);  // throws where the device is not part of this build
  CHECK(bytes >= 0, "storage: negative size ", bytes);
  capacity_ = rounded_up(bytes > 0 ? bytes : 1);
  Cache& c = cache();
  {
    std::lock_guard lock(c.mutex);
    auto found = c.freed.lower_bound(capacity_);
    if (capacity_ >= kSmallBlock && found != c.freed.end() &&
        found->first <= capacity_ + capacity_ / 8) {
      capacity_ = found->first;
      data_ = found->second;
      c.cached -= capacity_;
      c.freed.erase(found);
    }
  }
  if (!data_) data_ = fresh_block(capacity_);
  if (!data_) {
    release_cached_memory();
    data_ = fresh_block(capacity_);
  }
  CHECK_AS(Fault::memory, data_, "out of memory: a tensor of ", bytes,
           " bytes was asked for while ", memory_use().live, " were in use");
  {
    std::lock_guard lock(c.mutex);
    c.use.live += capacity_;
    c.use.peak = std::max(c.use.peak, c.use.live);
    c.most_live = std::max(c.most_live, c.use.live);
  }
  if (poison) std::memset(data_, 0xff, static_cast<size_t>(capacity_));
}

Storage::~Storage() {
  Cache& c = cache();
  std::lock_guard lock(c.mutex);
  c.use.live -= capacity_;
  if (capacity_ < kSmallBlock) {
    std::free(data_);
    return;
  }
  c.freed.emplace(capacity_, data_);
  c.cached += capacity_;
  while (c.cached > 0 && c.use.live + c.cached > c.most_live + kSlack) {  // the largest go first
    auto largest = std::prev(c.freed.end());
    c.cached -= largest->first;
    std::free(largest->second);
    c.freed.erase(largest);
  }
}

MemoryUse memory_use() {
  std::lock_guard lock(cache().mutex);
  return cache().use;
}

void reset_peak_memory() {
  std::lock_guard lock(cache().mutex);
  cache().use.peak = cache().use.live;
}

void release_cached_memory() {
  Cache& c = cache();
  std::lock_guard lock(c.mutex);
  for (auto& [capacity, block] : c.freed) std::free(block);
  c.freed.clear();
  c.cached = 0;
}

void set_poison_fresh_memory(bool on) { poison = on; }

}  // namespace mullion
