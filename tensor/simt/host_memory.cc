// Pinned blocks in a map; words of an argument that look like addresses are asked of the system.
#include "tensor/simt/host_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>

#include "tensor/simt/device_memory.h"
#include "tensor/simt/launch.h"

namespace mullion::simt {
namespace {

std::map<const unsigned char*, size_t>& pinned() {
  static auto* blocks = new std::map<const unsigned char*, size_t>;
  return *blocks;
}

// Where programs and their libraries, heaps and stacks lie on 64-bit Linux; a size or a seed of a
// test is far below.
constexpr uint64_t kLowestAddress = uint64_t{1} << 40, kHighestAddress = uint64_t{1} << 47;

bool is_mapped(uint64_t address) {
  static const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return msync(reinterpret_cast<void*>(address / page * page), page, MS_ASYNC) == 0 ||
         errno != ENOMEM;
}

}  // namespace

void* pinned_allocate(size_t bytes) {
  constexpr size_t kPage = 4096;
  const size_t rounded = (bytes + kPage - 1) / kPage * kPage;
  void* block = std::aligned_alloc(kPage, rounded ? rounded : kPage);
  if (!block) return nullptr;
  std::memset(block, 0xff, bytes);
  pinned().emplace(static_cast<const unsigned char*>(block), bytes);
  return block;
}

void pinned_free(void* pointer) {
  if (!pointer) return;
  if (!pinned().erase(static_cast<const unsigned char*>(pointer)))
    report("freed as pinned memory: an address that is not the start of a pinned block");
  std::free(pointer);
}

bool is_pinned(const void* pointer) {
  const auto p = static_cast<const unsigned char*>(pointer);
  auto next = pinned().upper_bound(p);
  if (next == pinned().begin()) return false;
  --next;
  return p < next->first + next->second;
}

void check_argument(const char* kernel, int number, const void* argument, size_t bytes,
                    bool may_write, Uses& uses) {
  for (size_t at = 0; at + 8 <= bytes; at += 8) {
    uint64_t word;
    std::memcpy(&word, static_cast<const unsigned char*>(argument) + at, 8);
    if (word < kLowestAddress || word >= kHighestAddress) continue;
    const auto* pointer = reinterpret_cast<const void*>(word);
    if (is_device_pointer(pointer)) uses.push_back({pointer, may_write});
    if (is_device_pointer(pointer) || is_pinned(pointer) || !is_mapped(word)) continue;
    report(concat(kernel, ": argument ", number, ", byte ", at, ": ", pointer,
                  " is an address of the host's memory"));
  }
}

}  // namespace mullion::simt
