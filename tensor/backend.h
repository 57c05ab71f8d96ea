// Which devices there are. A kind of device other than the CPU is a DeviceBackend: its kernels and
// its memory. It registers itself before main(), so that which devices a program has is decided by
// what it links; one that is not part of the build has no table of kernels.
#pragma once
#include <string>

#include "tensor/storage.h"

namespace mullion {

struct KernelTable;  // tensor/kernel_table.h

// The table of a device, which becomes the calling thread's current one. Throws Error
// (Fault::usage) where the build has none, "device cuda is not part of this build", and where the
// machine has none: "no CUDA device: " and the reason.
const KernelTable& kernels(Device device);

// What a kind of device brings along. Work is queued: kernels and copies run in the order in which
// they were asked for, and only download() and synchronize() wait. `index` counts devices of the
// kind; one that does not exist is Error (Fault::usage) in kernels() and never reaches the others.
struct DeviceBackend {
  const KernelTable& (*kernels)(int index);
  int (*count)();                               // devices that can be used
  std::string (*describe)(int index);           // name, memory and versions, for people
  std::string (*identity)(int index);           // the same for every process that sees the device
  void* (*allocate)(int64_t bytes, int index);  // aligned to 256; null: out of memory
  void (*free)(void* block, int index);         // whatever is queued may still use the block
  // The bytes of host memory may be used again when these return.
  void (*upload)(void* target, const void* source, int64_t bytes, int index);
  void (*download)(void* target, const void* source, int64_t bytes, int index);
  // Between two blocks of one device or of two.
  void (*copy)(void* target, int target_index, const void* source, int source_index, int64_t bytes);
  void (*set_bytes)(void* target, unsigned char value, int64_t bytes, int index);
  void (*synchronize)(int index);  // returns when all that was queued has run; throws its faults
  void (*trim)(int index);         // gives unused memory back to the system
  // What the calling thread queues between begin and end is recorded and not computed; it may not
  // wait, allocate, or exchange data with the host. end_recording() gives a graph, which replay()
  // queues as a whole, with the arguments of the recording; abandon_recording() forgets it, where
  // one is under way.
  void (*begin_recording)(int index);
  void* (*end_recording)(int index);
  void (*abandon_recording)(int index);
  void (*replay)(void* graph, int index);
  int64_t (*nodes_of)(void* graph);  // launches, copies and fills
  void (*destroy_graph)(void* graph, int index);
};
void register_backend(DeviceType type, const DeviceBackend& backend);
// The backend of a kind of device other than the CPU. Throws as kernels() where there is none.
const DeviceBackend& backend(DeviceType type);

// Devices of a kind that can be used; 0 where the build or the machine has none.
int device_count(DeviceType type);
void synchronize(Device device);
std::string describe(Device device);
// What tells a device from the others of its machine; of the CPU "".
std::string device_identity(Device device);

}  // namespace mullion
