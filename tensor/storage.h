// Storage: a block of bytes on a device. Blocks come from a small cache of freed blocks, because a
// training step asks for the same sizes again and again and fresh pages cost a page fault each.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

namespace mullion {

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
  // `bytes` of uninitialised memory, aligned to 64. Throws Error (Fault::memory) naming the size.
  Storage(int64_t bytes, Device device);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  Device device() const { return device_; }

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0, capacity_ = 0;
  Device device_;
};

// Bytes held by live tensors, and the most since the last reset: the figures behind `mem_gib`.
struct MemoryUse {
  int64_t live = 0, peak = 0;
};
MemoryUse memory_use();
void reset_peak_memory();
void release_cached_memory();  // gives the freed blocks back to the system

// While true, fresh storage is filled with NaN (0xff bytes), so that a test sees a kernel that
// leaves an element of its output unwritten.
void set_poison_fresh_memory(bool on);

}  // namespace mullion
