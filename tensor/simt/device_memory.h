// Device memory of the emulator: each allocation ends (to 16 bytes) at an inaccessible page and has
// a marked zone before and after it. Fresh memory is 0xff: NaN as f32, bf16 and f64.
#pragma once
#include <cstddef>
#include <string>

#include "tensor/simt/stream_order.h"

namespace mullion::simt {

// Null where the device's memory is full.
void* device_allocate(size_t bytes, int device);
void device_free(void* pointer);  // reports a pointer that is none of ours, and damaged zones
// Reports the first damaged zone of any allocation; `when` ends the sentence.
void check_device_zones(const std::string& when);

// With the trap set, device memory is inaccessible but while a DeviceAccess lives: host code that
// follows a device's pointer crashes, as it would on a machine with a GPU. What the work under way
// touches is made accessible by the handler of the fault, since most of it touches a few of many
// allocations.
void set_host_trap(bool on);
// For that handler: whether the access may be made again.
bool open_for_device(const void* address);
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
};

// Work that uses memory (stream_order.h); an address in no allocation is left to who goes there.
void note_allocation(const void* pointer, const Moment& now);
void note_use(const Use& use, const Moment& now, const Clock& known);
void note_free(const void* pointer, const Moment& now, const Clock& known);
int owner_of(const void* pointer);  // the device; -1 for an address in no allocation
// Whether the address is in an allocation; then `place` is as on a device, where each begins at a
// multiple of 256.
bool place_on_device(const void* pointer, uintptr_t& place);

bool is_device_pointer(const void* pointer);
// Reports where `bytes` at `pointer` are not within one allocation.
void check_device_range(const std::string& call, const void* pointer, size_t bytes);
// The largest power of two, up to 256, that CUDA would align the address to: its allocations start
// at multiples of 256.
size_t device_alignment(const void* pointer);
// "4 bytes past the end of an allocation of 64 bytes", for a message about an address.
std::string describe_device_address(const void* pointer);

size_t device_bytes_in_use(int device = 0);
size_t device_bytes_high(int device = 0);
void reset_device_bytes_high(int device = 0);
size_t device_capacity();  // of each device
void set_device_capacity(size_t bytes);

}  // namespace mullion::simt
