// Per-thread growing buffers; a larger request frees the old buffer before it takes the new one.
// Under the address sanitizer what lies beyond the elements asked for, of an earlier and larger
// request, may not be touched, and the elements are NaN.
#include "tensor/scratch.h"

#include <cstring>
#include <memory>
#include <new>

#include "tensor/check.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace mullion {

namespace {
constexpr std::align_val_t kAlignment{64};

struct AlignedDelete {
  void operator()(float* p) const { ::operator delete[](p, kAlignment); }
};

#if defined(__SANITIZE_ADDRESS__)
void lend(float* data, size_t size, size_t n) {
  if (!data) return;
  ASAN_UNPOISON_MEMORY_REGION(data, size * sizeof(float));
  std::memset(data, 0xff, n * sizeof(float));
  ASAN_POISON_MEMORY_REGION(data + n, (size - n) * sizeof(float));
}
#else
void lend(float*, size_t, size_t) {}
#endif

struct Slot {
  std::unique_ptr<float[], AlignedDelete> data;
  size_t size = 0;
};
}  // namespace

float* thread_scratch(size_t n, int slot) {
  thread_local Slot slots[kScratchSlots];
  DCHECK(slot >= 0 && slot < kScratchSlots);
  Slot& s = slots[slot];
  if (n > s.size) {
    s.data.reset();
    s.size = 0;
    s.data.reset(static_cast<float*>(::operator new[](n * sizeof(float), kAlignment)));
    s.size = n;
  }
  lend(s.data.get(), s.size, n);
  return s.data.get();
}

}  // namespace mullion
