// inaccessible | static variables, zones between | inaccessible | dynamic part | inaccessible.
#include "tensor/simt/shared_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include "tensor/simt/device_memory.h"
#include "tensor/simt/device_model.h"
#include "tensor/simt/engine.h"
#include "tensor/simt/guard_zone.h"
#include "tensor/simt/shared_shadow.h"

namespace mullion::simt {
namespace {

using Byte = unsigned char;
constexpr size_t kZone = 64, kAlignment = 128, kMaxVariables = 64;
constexpr size_t kLargest = 227 << 10;  // of any device
constexpr size_t kStaticArea = Limits::kStaticShared + kMaxVariables * (kZone + 2 * kAlignment);

struct Variable {
  const char* name;
  Byte* first;
  size_t bytes;
};

struct Shared {
  size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  Byte *statics, *statics_end, *dynamic_end, *dynamic;
  Byte* free;  // of the static area
  size_t static_bytes = 0, dynamic_bytes = 0, limit = 0, count = 0;
  Variable variables[kMaxVariables];

  // inaccessible | static area | inaccessible | dynamic area | inaccessible
  Shared() {
    const auto whole = [&](size_t bytes) { return (bytes + page - 1) / page * page; };
    const size_t static_area = whole(kStaticArea), dynamic_area = whole(kLargest + kZone);
    void* memory = mmap(nullptr, static_area + dynamic_area + 3 * page, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED, "the emulator got no shared memory");
    statics = static_cast<Byte*>(memory) + page;
    statics_end = statics + static_area;
    dynamic_end = statics_end + page + dynamic_area;
    free = statics;
    dynamic = dynamic_end;
    mprotect(statics, static_area, PROT_READ | PROT_WRITE);
    mprotect(dynamic_end - dynamic_area, dynamic_area, PROT_READ | PROT_WRITE);
    watch_shared(statics, static_cast<size_t>(dynamic_end - statics));
  }
};
Shared& shared() {
  static Shared* the_shared = new Shared;
  return *the_shared;
}

}  // namespace

uint64_t SharedVariable::current_block = 0;

void begin_shared_memory(size_t bytes, size_t limit) {
  Shared& s = shared();
  s.free = s.statics;
  s.static_bytes = s.count = 0;
  s.dynamic_bytes = bytes;
  s.limit = limit;
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  s.dynamic = s.dynamic_end - rounded;
  std::memset(s.dynamic, 0xff, bytes);
  mark_zone(s.dynamic + bytes, rounded - bytes);
  mark_zone(s.dynamic - kZone, kZone);
}

void SharedVariable::place() {
  Shared& s = shared();
  s.static_bytes += bytes_;
  if (s.static_bytes > Limits::kStaticShared || s.static_bytes + s.dynamic_bytes > s.limit ||
      s.count == kMaxVariables)
    report(concat("shared memory: with ", name_, " ", s.static_bytes, " bytes static and ",
                  s.dynamic_bytes, " dynamic; a block has ", Limits::kStaticShared, " and ",
                  s.limit, " in all"));
  const size_t alignment = alignment_ > 16 ? alignment_ : 16;
  auto first = reinterpret_cast<uintptr_t>(s.free + kZone);
  first = (first + alignment - 1) / alignment * alignment;
  place_ = reinterpret_cast<void*>(first);
  auto* begin = static_cast<Byte*>(place_);
  std::memset(begin, 0xff, bytes_);
  mark_zone(begin - kZone, kZone);
  mark_zone(begin + bytes_, kZone);
  s.variables[s.count++] = {name_, begin, bytes_};
  s.free = begin + bytes_;
  block_ = current_block;
}

void* dynamic_shared() { return shared().dynamic; }

std::string damaged_shared_memory() {
  const Shared& s = shared();
  for (size_t i = 0; i < s.count; ++i) {
    const Variable& v = s.variables[i];
    if (!zone_is_intact(v.first - kZone, kZone))
      return concat("written before the start of the shared variable ", v.name);
    if (!zone_is_intact(v.first + v.bytes, kZone))
      return concat("written past the end of the shared variable ", v.name, " of ", v.bytes,
                    " bytes");
  }
  const size_t slack = static_cast<size_t>(s.dynamic_end - s.dynamic) - s.dynamic_bytes;
  if (!zone_is_intact(s.dynamic + s.dynamic_bytes, slack))
    return concat("written past the end of the ", s.dynamic_bytes,
                  " bytes of dynamic shared memory");
  if (!zone_is_intact(s.dynamic - kZone, kZone))
    return "written before the start of dynamic shared memory";
  return "";
}

bool is_shared(const void* address, size_t bytes) {
  const Shared& s = shared();
  const auto p = static_cast<const Byte*>(address);
  if (p >= s.dynamic && p + bytes <= s.dynamic + s.dynamic_bytes) return true;
  for (size_t i = 0; i < s.count; ++i)
    if (p >= s.variables[i].first && p + bytes <= s.variables[i].first + s.variables[i].bytes)
      return true;
  return false;
}

void check_shared(const char* operation, const void* address, size_t bytes, size_t alignment) {
  if (!is_shared(address, bytes))
    report(concat(operation, ": ", bytes,
                  " bytes outside of shared memory: ", describe_address(address)));
  check_aligned(operation, address, alignment);
}

std::string describe_address(const void* address) {
  const Shared& s = shared();
  const auto p = static_cast<const Byte*>(address);
  if (p >= s.dynamic - s.page && p < s.dynamic_end + s.page)
    return concat("byte ", p - s.dynamic, " of the ", s.dynamic_bytes,
                  " bytes of dynamic shared memory");
  for (size_t i = 0; i < s.count; ++i)
    if (p >= s.variables[i].first - kZone &&
        p < s.variables[i].first + s.variables[i].bytes + kZone)
      return concat("byte ", p - s.variables[i].first, " of the ", s.variables[i].bytes,
                    " bytes of the shared variable ", s.variables[i].name);
  if (p >= s.statics - s.page && p < s.statics_end + s.page) return "unused shared memory";
  return concat("an address that is ", describe_device_address(address));
}

}  // namespace mullion::simt
