// Per-thread growing buffers; a larger request frees the old buffer before it takes the new one.
#include "tensor/scratch.h"

#include <memory>
#include <new>

#include "tensor/check.h"

namespace mullion {

namespace {
constexpr std::align_val_t kAlignment{64};

struct AlignedDelete {
  void operator()(float* p) const { ::operator delete[](p, kAlignment); }
};

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
  return s.data.get();
}

}  // namespace mullion
