// The CPU allocator: a best-fit cache of freed blocks, bounded, with huge pages asked for where a
// block is large. Every figure it keeps is under one mutex; tensors are few and large. Memory of
// another device comes from its backend, and is only counted here.
#include "tensor/storage.h"

#include <malloc.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "tensor/allocation.h"
#include "tensor/backend.h"
#include "tensor/check.h"
#include "tensor/op_scope.h"
#include "tensor/step_memory.h"

namespace mullion {
namespace {

constexpr size_t kAlignment = 64;
constexpr int64_t kHugePage = 2 << 20;

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

struct DeviceUse {
  std::mutex mutex;
  std::map<std::pair<DeviceType, int>, MemoryUse> use;
};
DeviceUse& device_use() {
  static DeviceUse* the_use = new DeviceUse;  // never destroyed, for the same reason
  return *the_use;
}
// Those who would release something, by their object; they come and go on any thread.
struct Releases {
  std::mutex mutex;
  std::map<const ReleaseOnShortage*, std::pair<Device, std::function<void()>>> of;
};
Releases& releases() {
  static Releases* the_releases = new Releases;
  return *the_releases;
}

std::pair<DeviceType, int> key_of(Device device) { return {device.type, device.index}; }

// Whether there was anything to release.
bool release_all(Device device) {
  std::vector<std::function<void()>> all;  // a copy: they may unregister
  {
    Releases& r = releases();
    const std::lock_guard lock(r.mutex);
    for (const auto& [who, what] : r.of)
      if (what.first == device) all.push_back(what.second);
  }
  for (const auto& release : all) release();
  return !all.empty();
}

#if defined(__SANITIZE_ADDRESS__)
constexpr int64_t kMapped = std::numeric_limits<int64_t>::max();  // it watches malloc's blocks
#else
constexpr int64_t kMapped = kSmallBlock;
#endif

// Pages of the system's own, so that those of a freed block leave the process: malloc would keep
// most of them. Large blocks begin at a huge page.
std::byte* mapped_block(int64_t capacity) {
  const int64_t spare = capacity >= kHugePage ? kHugePage : 0;
  const auto size = static_cast<size_t>(capacity), all = static_cast<size_t>(capacity + spare);
  void* pages = ::mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) return nullptr;
  auto* begin = static_cast<std::byte*>(pages);
  if (spare == 0) return begin;
  size_t left = all;
  void* block = std::align(static_cast<size_t>(kHugePage), size, pages, left);
  const size_t before = all - left;
  if (before > 0) ::munmap(begin, before);
  if (left > size) ::munmap(begin + before + size, left - size);
  ::madvise(block, size, MADV_HUGEPAGE);
  return static_cast<std::byte*>(block);
}

std::byte* fresh_block(int64_t capacity) {
  if (capacity >= kMapped) return mapped_block(capacity);
  void* block = nullptr;
  return ::posix_memalign(&block, kAlignment, static_cast<size_t>(capacity)) == 0
             ? static_cast<std::byte*>(block)
             : nullptr;
}

void free_block(std::byte* block, int64_t capacity) {
  if (capacity >= kMapped)
    ::munmap(block, static_cast<size_t>(capacity));
  else
    std::free(block);
}

// Frees the largest until those left, with what lives and the bytes that are about to, keep to the
// bound.
void make_room(Cache& c, int64_t more) {
  const int64_t live = c.use.live + more, most = std::max(c.most_live, live);
  while (c.cached > 0 && live + c.cached > most + kept_beyond(most)) {
    const auto largest = std::prev(c.freed.end());
    c.cached -= largest->first;
    free_block(largest->second, largest->first);
    c.freed.erase(largest);
  }
}

}  // namespace

void Storage::take_from_cpu() {
  capacity_ = allocated_bytes(bytes_);
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
    } else {
      make_room(c, capacity_);
    }
  }
  if (!data_) data_ = fresh_block(capacity_);
  if (!data_) {
    release_cached_memory();
    data_ = fresh_block(capacity_);
  }
  CHECK_AS(Fault::memory, data_, "out of memory: ", bytes_, " bytes were asked for while ",
           memory_use().live, " were in use");
  {
    std::lock_guard lock(c.mutex);
    c.use.live += capacity_;
    c.use.peak = std::max(c.use.peak, c.use.live);
    c.most_live = std::max(c.most_live, c.use.live);
  }
  if (poison) std::memset(data_, 0xff, static_cast<size_t>(capacity_));
}

void Storage::give_to_cpu() {
  Cache& c = cache();
  std::lock_guard lock(c.mutex);
  c.use.live -= capacity_;
  if (capacity_ < kSmallBlock) {
    free_block(data_, capacity_);
    return;
  }
  c.freed.emplace(capacity_, data_);
  c.cached += capacity_;
  make_room(c, 0);
}

void Storage::take_from_device() {
  const DeviceBackend& b = backend(device_.type);
  const int64_t wanted = std::max<int64_t>(bytes_, 1);
  capacity_ = allocated_bytes(bytes_, device_.type);
  if ((memory_ = StepMemory::of_scope(device_))) {
    number_ = memory_->begin_life(wanted);
    data_ = memory_->place(number_);
    placed_ = data_ != nullptr;
  }
  if (!placed_) {
    data_ = static_cast<std::byte*>(b.allocate(wanted, device_.index));
    const auto try_again = [&] {  // what is queued may hold blocks that are free already
      b.synchronize(device_.index);
      b.trim(device_.index);
      data_ = static_cast<std::byte*>(b.allocate(wanted, device_.index));
    };
    if (!data_) try_again();
    if (!data_ && release_all(device_)) try_again();
    count_device_block();
  }
  if (poison) b.set_bytes(data_, 0xff, bytes_, device_.index);
}

void Storage::count_device_block() {
  CHECK_AS(Fault::memory, data_, "out of memory on ", name_of(device_), ":", device_.index, ": ",
           bytes_, " bytes were asked for while ", memory_use(device_).live, " were in use");
  DeviceUse& d = device_use();
  {
    std::lock_guard lock(d.mutex);
    MemoryUse& use = d.use[key_of(device_)];
    use.live += capacity_;
    use.peak = std::max(use.peak, use.live);
  }
}

Storage::Storage(int64_t bytes, Device device)
    : bytes_(bytes), device_(device), made_at_(OpClock::now()) {
  kernels(device);  // throws where the device is not there
  CHECK(bytes >= 0, "storage: negative size ", bytes);
  device.type == DeviceType::cpu ? take_from_cpu() : take_from_device();
}

void Storage::note_write() {
  written_at_.store(OpClock::now(), std::memory_order_relaxed);
  writer_.store(OpScope::current().name, std::memory_order_relaxed);
}

Storage::~Storage() {
  if (device_.type == DeviceType::cpu) {
    give_to_cpu();
    return;
  }
  if (memory_) memory_->end_life(number_);
  if (placed_) return;
  backend(device_.type).free(data_, device_.index);
  DeviceUse& d = device_use();
  std::lock_guard lock(d.mutex);
  d.use[key_of(device_)].live -= capacity_;
}

MemoryUse memory_use(Device device) {
  if (device.type == DeviceType::cpu) {
    std::lock_guard lock(cache().mutex);
    return cache().use;
  }
  std::lock_guard lock(device_use().mutex);
  return device_use().use[key_of(device)];
}

void reset_peak_memory(Device device) {
  if (device.type == DeviceType::cpu) {
    std::lock_guard lock(cache().mutex);
    cache().use.peak = cache().use.live;
    return;
  }
  std::lock_guard lock(device_use().mutex);
  MemoryUse& use = device_use().use[key_of(device)];
  use.peak = use.live;
}

void release_cached_memory(Device device) {
  if (device.type != DeviceType::cpu) return backend(device.type).trim(device.index);
  Cache& c = cache();
  std::lock_guard lock(c.mutex);
  for (auto& [capacity, block] : c.freed) free_block(block, capacity);
  c.freed.clear();
  c.cached = 0;
  c.most_live = c.use.live;
  malloc_trim(0);  // malloc keeps pages of its own, below the top of its heap
}

ReleaseOnShortage::ReleaseOnShortage(Device device, std::function<void()> release) {
  Releases& r = releases();
  const std::lock_guard lock(r.mutex);
  r.of.emplace(this, std::pair{device, std::move(release)});
}
ReleaseOnShortage::~ReleaseOnShortage() {
  Releases& r = releases();
  const std::lock_guard lock(r.mutex);
  r.of.erase(this);
}

void set_poison_fresh_memory(bool on) { poison = on; }

}  // namespace mullion
