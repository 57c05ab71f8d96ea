// Pages by mmap(), zones checked after each grid, and ranges in quarantine after they are freed.
#include "tensor/simt/device_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <map>
#include <vector>

#include "tensor/simt/device_model.h"
#include "tensor/simt/engine.h"
#include "tensor/simt/guard_zone.h"

namespace mullion::simt {
namespace {

using Byte = unsigned char;
constexpr size_t kArena = size_t{1} << 42;  // addresses, not memory
constexpr size_t kGranule = 16;             // what CUDA's widest access needs
constexpr size_t kZone = 64;                // before each allocation
constexpr size_t kQuarantined = 4096;       // freed ranges that stay inaccessible at least

struct Allocation {
  size_t bytes;
  Byte* pages;  // the first of its pages
  size_t mapped;
  History history;
  bool open = true;  // accessible
  Byte* end() const { return pages + mapped; }
};

struct Device {
  Byte *arena, *fresh;
  size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  std::map<const Byte*, Allocation> live;
  std::deque<Allocation> quarantine;
  std::multimap<size_t, Byte*> reusable;  // by mapped size
  bool trap = false;
  std::vector<const Byte*> opened;  // under the trap: what the work under way has touched
  int accesses = 0;                 // DeviceAccess objects alive
  struct Amount {
    size_t in_use = 0, high = 0;
  };
  std::map<int, Amount> amounts;  // of each device
  size_t capacity = device_model().memory;

  Device() {
    void* reserved =
        mmap(nullptr, kArena, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) throw Finding("the emulator got no addresses for device memory");
    arena = static_cast<Byte*>(reserved);
    fresh = arena + page;
  }
};
Device& device() {
  static Device* the_device = new Device;  // never destroyed: tensors may outlive main
  return *the_device;
}

// The zones around an allocation: up to 64 bytes before it, less than 16 after it.
struct Zones {
  const Byte *before, *base, *after, *end;
};
Zones zones_of(const Byte* base, const Allocation& a) {
  const size_t room = static_cast<size_t>(base - a.pages);
  return {base - (room < kZone ? room : kZone), base, base + a.bytes, a.end()};
}

void check_zones(const Byte* base, const Allocation& a, const std::string& when) {
  const Zones z = zones_of(base, a);
  const bool before = zone_is_intact(z.before, static_cast<size_t>(z.base - z.before));
  if (before && zone_is_intact(z.after, static_cast<size_t>(z.end - z.after))) return;
  mark_zone(const_cast<Byte*>(z.before), static_cast<size_t>(z.base - z.before));
  mark_zone(const_cast<Byte*>(z.after), static_cast<size_t>(z.end - z.after));  // reported once
  report(concat("written ", before ? "past the end" : "before the start", " of an allocation of ",
                a.bytes, " bytes", when));
}

std::pair<const Byte* const, Allocation>* allocation_below(const void* pointer) {
  auto& live = device().live;
  auto next = live.upper_bound(static_cast<const Byte*>(pointer));
  return next == live.begin() ? nullptr : &*std::prev(next);
}

// The one that the address lies in, or null.
Allocation* allocation_at(const void* pointer) {
  auto* below = is_device_pointer(pointer) ? allocation_below(pointer) : nullptr;
  const bool within =
      below && static_cast<const Byte*>(pointer) < below->first + below->second.bytes;
  return within ? &below->second : nullptr;
}
std::string describe(const Allocation& a) { return concat("an allocation of ", a.bytes, " bytes"); }

void set_open(Allocation& a, bool open) {
  a.open = open;
  mprotect(a.pages, a.mapped, open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

}  // namespace

void set_host_trap(bool on) {
  Device& d = device();
  d.trap = on;
  d.opened.clear();
  for (auto& [base, allocation] : d.live) set_open(allocation, !on);
}
DeviceAccess::DeviceAccess() { ++device().accesses; }
DeviceAccess::~DeviceAccess() {
  Device& d = device();
  if (--d.accesses > 0) return;
  for (const Byte* base : d.opened)
    if (const auto found = d.live.find(base); found != d.live.end()) set_open(found->second, false);
  d.opened.clear();
}
bool open_for_device(const void* address) {
  Device& d = device();
  if (!d.trap || d.accesses == 0 || !is_device_pointer(address)) return false;
  auto next = d.live.upper_bound(static_cast<const Byte*>(address));
  // Its pages may begin before its first byte.
  for (int i = 0; i < 2; ++i) {
    if (next != d.live.end() && !next->second.open && next->second.pages <= address &&
        address < next->second.end()) {
      set_open(next->second, true);
      d.opened.push_back(next->first);
      return true;
    }
    if (next == d.live.begin()) return false;
    --next;
  }
  return false;
}

void* device_allocate(size_t bytes, int index) {
  Device& d = device();
  Device::Amount& amount = d.amounts[index];
  if (amount.in_use + bytes > d.capacity) return nullptr;
  const size_t rounded = (bytes + kGranule - 1) / kGranule * kGranule;
  Allocation a{bytes, nullptr, (rounded + kZone + d.page - 1) / d.page * d.page, History(index)};
  if (auto found = d.reusable.find(a.mapped); found != d.reusable.end()) {
    a.pages = found->second;
    d.reusable.erase(found);
  } else {
    if (d.fresh + a.mapped + d.page > d.arena + kArena) return nullptr;
    a.pages = d.fresh;
    d.fresh += a.mapped + d.page;
  }
  if (mprotect(a.pages, a.mapped, PROT_READ | PROT_WRITE) != 0) return nullptr;
  Byte* base = a.end() - rounded;
  const Zones z = zones_of(base, a);
  std::memset(base, 0xff, bytes);
  mark_zone(const_cast<Byte*>(z.before), static_cast<size_t>(base - z.before));
  mark_zone(base + bytes, rounded - bytes);
  if (d.trap) set_open(a, false);
  d.live.emplace(base, a);
  amount.in_use += bytes;
  amount.high = std::max(amount.high, amount.in_use);
  return base;
}

void device_free(void* pointer) {
  if (!pointer) return;
  Device& d = device();
  const auto found = d.live.find(static_cast<const Byte*>(pointer));
  if (found == d.live.end())
    report(concat("freed an address that is ", describe_device_address(pointer)));
  const Allocation a = found->second;
  d.live.erase(found);
  d.amounts[a.history.device()].in_use -= a.bytes;
  // What a late reader finds is a fault, for as long as the range is in quarantine; the memory
  // itself goes back at once.
  mprotect(a.pages, a.mapped, PROT_NONE);
  madvise(a.pages, a.mapped, MADV_DONTNEED);
  d.quarantine.push_back(a);
  if (d.quarantine.size() > kQuarantined) {
    d.reusable.emplace(d.quarantine.front().mapped, d.quarantine.front().pages);
    d.quarantine.pop_front();
  }
}

void check_device_zones(const std::string& when) {
  // What is not accessible was not written.
  for (const auto& [base, allocation] : device().live)
    if (allocation.open) check_zones(base, allocation, when);
}

void note_allocation(const void* pointer, const Moment& now) {
  device().live.at(static_cast<const Byte*>(pointer)).history.begins(now);
}
void note_use(const Use& use, const Moment& now, const Clock& known) {
  if (auto* a = allocation_at(use.pointer)) a->history.use(use, now, known, describe(*a));
}
void note_free(const void* pointer, const Moment& now, const Clock& known) {
  if (auto* a = allocation_at(pointer)) a->history.free(now, known, describe(*a));
}
int owner_of(const void* pointer) {
  const auto* a = allocation_at(pointer);
  return a ? a->history.device() : -1;
}

bool place_on_device(const void* pointer, uintptr_t& place) {
  if (!allocation_at(pointer)) return false;
  const auto base = reinterpret_cast<uintptr_t>(allocation_below(pointer)->first);
  place = (base + 255) / 256 * 256 + (reinterpret_cast<uintptr_t>(pointer) - base);
  return true;
}

bool is_device_pointer(const void* pointer) {
  const Device& d = device();
  const auto p = static_cast<const Byte*>(pointer);
  return p >= d.arena && p < d.arena + kArena;
}

void check_device_range(const std::string& call, const void* pointer, size_t bytes) {
  if (bytes == 0) return;
  const auto* below = allocation_below(pointer);
  const auto p = static_cast<const Byte*>(pointer);
  if (!below || p + bytes > below->first + below->second.bytes)
    report(concat(call, ": ", bytes, " bytes at an address that is ",
                  describe_device_address(pointer)));
}

size_t device_alignment(const void* pointer) {
  const auto* below = allocation_below(pointer);
  const auto p = static_cast<const Byte*>(pointer);
  const auto offset = static_cast<size_t>(p - (below ? below->first : device().arena));
  const auto power = [](size_t n) { return n % 256 == 0 ? size_t{256} : n & (~n + 1); };
  return std::max(power(offset), power(reinterpret_cast<size_t>(p)));
}

std::string describe_device_address(const void* pointer) {
  if (!is_device_pointer(pointer)) return pointer ? "not in device memory" : "null";
  const auto p = static_cast<const Byte*>(pointer);
  const auto& live = device().live;
  if (const auto* below = allocation_below(pointer)) {
    const Allocation& a = below->second;
    const auto offset = static_cast<size_t>(p - below->first);
    if (offset < a.bytes) return concat("byte ", offset, " of an allocation of ", a.bytes);
    if (p < a.end() + device().page)
      return concat(offset - a.bytes, " bytes past the end of an allocation of ", a.bytes);
  }
  if (auto next = live.upper_bound(p);
      next != live.end() && p + device().page >= next->second.pages)
    return concat(next->first - p, " bytes before an allocation of ", next->second.bytes);
  return "in no live allocation (freed, or never allocated)";
}

size_t device_bytes_in_use(int index) { return device().amounts[index].in_use; }
size_t device_bytes_high(int index) { return device().amounts[index].high; }
void reset_device_bytes_high(int index) {
  Device::Amount& amount = device().amounts[index];
  amount.high = amount.in_use;
}
size_t device_capacity() { return device().capacity; }
void set_device_capacity(size_t bytes) { device().capacity = bytes; }

}  // namespace mullion::simt
