// Storage: a block of bytes on a device. On the CPU blocks come from a small cache of freed blocks,
// because a training step asks for the same sizes again and again and fresh pages cost a page fault
// each; another device has a pool of its own (DeviceBackend).
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

namespace mullion {

class StepMemory;  // tensor/step_memory.h

enum class DeviceType : uint8_t { cpu, cuda };
constexpr int kDeviceTypes = 2;

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;
  bool operator==(const Device&) const = default;
};

constexpr std::string_view name_of(Device d) { return d.type == DeviceType::cpu ? "cpu" : "cuda"; }

class Storage {
 public:
  // `bytes` of uninitialised memory, aligned to 64. Throws Error (Fault::memory) naming the size
  // and what is in use.
  Storage(int64_t bytes, Device device);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  // Whether the bytes are a part of the memory's one block.
  bool is_placed_in(const StepMemory& memory) const { return placed_ && memory_.get() == &memory; }

  // That the op of this thread writes to the bytes.
  void note_write();
  // Whether the bytes are no longer those that the op of this number had when it was recorded.
  // What was made after it counts as its backward's own.
  bool changed_since(uint64_t op) const {
    return made_at_ <= op && written_at_.load(std::memory_order_relaxed) > op;
  }
  // The op that wrote last; null where it was none.
  const char* last_writer() const { return writer_.load(std::memory_order_relaxed); }

 private:
  void take_from_cpu();
  void give_to_cpu();
  void take_from_device();
  void count_device_block();

  std::byte* data_ = nullptr;
  int64_t bytes_ = 0, capacity_ = 0;
  Device device_;
  std::shared_ptr<StepMemory> memory_;  // in whose scope it was made
  int64_t number_ = 0;                  // there
  bool placed_ = false;
  uint64_t made_at_;  // as written_at_, in the count of OpClock
  std::atomic<uint64_t> written_at_{0};
  std::atomic<const char*> writer_{nullptr};
};

// Bytes held by live tensors of a device, and the most since the last reset: the figures behind
// `mem_gib`.
struct MemoryUse {
  int64_t live = 0, peak = 0;
};
MemoryUse memory_use(Device device = {});
void reset_peak_memory(Device device = {});
// Gives the freed blocks back to the system.
void release_cached_memory(Device device = {});

// While one lives, `release` is called before the device's want of memory becomes an error: it may
// let go of what can be made again. It makes no storage.
class ReleaseOnShortage {
 public:
  ReleaseOnShortage(Device device, std::function<void()> release);
  ~ReleaseOnShortage();
  ReleaseOnShortage(const ReleaseOnShortage&) = delete;
  ReleaseOnShortage& operator=(const ReleaseOnShortage&) = delete;
};

// While true, fresh storage is filled with NaN (0xff bytes), so that a test sees a kernel that
// leaves an element of its output unwritten.
void set_poison_fresh_memory(bool on);

}  // namespace mullion
