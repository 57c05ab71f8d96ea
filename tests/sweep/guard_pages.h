// Memory for a sweep's arrays: each between two inaccessible pages, at one of which it begins or
// ends, so that one element too many read or written there stops the program. The other side has
// marked bytes, which show a write.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <vector>

#include "tensor/check.h"

namespace mullion::sweep {

enum class Side { begins_at_page, ends_at_page };

class GuardPages {
 public:
  GuardPages() = default;
  GuardPages(const GuardPages&) = delete;
  ~GuardPages() {
    for (const Region& r : regions_) ::munmap(r.begin - page(), r.size + 2 * page());
  }

  // `bytes` bytes, valid until free_all(); their contents are undefined.
  std::byte* take(size_t bytes, Side side) {
    Region& r = region_for(bytes);
    r.taken = true;
    r.data = side == Side::begins_at_page ? r.begin : r.begin + r.size - bytes;
    r.bytes = bytes;
    std::memset(r.mark(), kMark, r.marked());
    return r.data;
  }
  // Whether nothing was written beside a block on the side that has no page.
  bool is_clean(const std::byte* data) const {
    for (const Region& r : regions_)
      if (r.taken && r.data == data) {
        for (size_t i = 0; i < r.marked(); ++i)
          if (r.mark()[i] != std::byte{kMark}) return false;
        return true;
      }
    return true;
  }
  void free_all() {
    for (Region& r : regions_) r.taken = false;
  }

 private:
  static constexpr unsigned char kMark = 0xa5;
  static constexpr size_t kMost = 64;  // marked bytes

  struct Region {
    std::byte* begin;  // after the first inaccessible page
    size_t size;       // of the pages between
    bool taken = false;
    std::byte* data = nullptr;
    size_t bytes = 0;

    size_t marked() const { return std::min(kMost, size - bytes); }
    std::byte* mark() const { return data == begin ? begin + bytes : data - marked(); }
  };

  static size_t page() {
    static const auto size = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    return size;
  }
  // A free region of at least so many bytes, and not of much more.
  Region& region_for(size_t bytes) {
    size_t size = page();
    while (size < bytes) size *= 2;
    for (Region& r : regions_)
      if (!r.taken && r.size == size) return r;
    void* all = ::mmap(nullptr, size + 2 * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(all != MAP_FAILED, "sweep: no memory for guard pages");
    auto* begin = static_cast<std::byte*>(all) + page();
    CHECK(::mprotect(begin, size, PROT_READ | PROT_WRITE) == 0, "sweep: mprotect failed");
    regions_.push_back({begin, size});
    return regions_.back();
  }

  std::vector<Region> regions_;
};

}  // namespace mullion::sweep
