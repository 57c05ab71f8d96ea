// What the compiler calls at each access to memory in the kernels of the emulator: with
// -fsanitize=thread it calls these functions (the interface of its runtime library for threads,
// which is not linked), so that accesses through plain pointers are seen (shared_shadow.h,
// access_counters.h). What is no shared memory passes at the cost of a call.
#include <cstdint>

#include "tensor/simt/access_counters.h"
#include "tensor/simt/shared_shadow.h"

namespace {

using mullion::simt::Access;
using mullion::simt::count_access;
using mullion::simt::counting_accesses;
using mullion::simt::shared_span;
using mullion::simt::touch_shared;

inline void touch(const void* place, const void* p, size_t bytes, Access access) {
  if (shared_span.holds(p)) touch_shared(p, bytes, access);
  if (counting_accesses) [[unlikely]]
    count_access(place, p, bytes, access != Access::read);
}

}  // namespace

extern "C" {

#define HERE __builtin_return_address(0)
#define HOOKS(bytes)                                                                    \
  void __tsan_read##bytes(void* p) { touch(HERE, p, bytes, Access::read); }             \
  void __tsan_write##bytes(void* p) { touch(HERE, p, bytes, Access::write); }           \
  void __tsan_unaligned_read##bytes(void* p) { touch(HERE, p, bytes, Access::read); }   \
  void __tsan_unaligned_write##bytes(void* p) { touch(HERE, p, bytes, Access::write); } \
  void __tsan_volatile_read##bytes(void* p) { touch(HERE, p, bytes, Access::read); }    \
  void __tsan_volatile_write##bytes(void* p) { touch(HERE, p, bytes, Access::write); }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
#undef HOOKS
void __tsan_read_range(void* p, size_t bytes) { touch(HERE, p, bytes, Access::read); }
void __tsan_write_range(void* p, size_t bytes) { touch(HERE, p, bytes, Access::write); }

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

// Atomics of host code that stands in the same files.
using Word8 = uint8_t;
using Word32 = uint32_t;
using Word64 = uint64_t;
#define ATOMICS(bits)                                                                              \
  Word##bits __tsan_atomic##bits##_load(const volatile Word##bits* p, int) {                       \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                                \
  void __tsan_atomic##bits##_store(volatile Word##bits* p, Word##bits value, int) {                \
    __atomic_store_n(p, value, __ATOMIC_SEQ_CST);                                                  \
  }                                                                                                \
  Word##bits __tsan_atomic##bits##_exchange(volatile Word##bits* p, Word##bits value, int) {       \
    return __atomic_exchange_n(p, value, __ATOMIC_SEQ_CST);                                        \
  }                                                                                                \
  Word##bits __tsan_atomic##bits##_fetch_add(volatile Word##bits* p, Word##bits value, int) {      \
    return __atomic_fetch_add(p, value, __ATOMIC_SEQ_CST);                                         \
  }                                                                                                \
  Word##bits __tsan_atomic##bits##_fetch_sub(volatile Word##bits* p, Word##bits value, int) {      \
    return __atomic_fetch_sub(p, value, __ATOMIC_SEQ_CST);                                         \
  }                                                                                                \
  bool __tsan_atomic##bits##_compare_exchange_strong(volatile Word##bits* p, Word##bits* expected, \
                                                     Word##bits value, int, int) {                 \
    return __atomic_compare_exchange_n(p, expected, value, false, __ATOMIC_SEQ_CST,                \
                                       __ATOMIC_SEQ_CST);                                          \
  }                                                                                                \
  bool __tsan_atomic##bits##_compare_exchange_weak(volatile Word##bits* p, Word##bits* expected,   \
                                                   Word##bits value, int, int) {                   \
    return __atomic_compare_exchange_n(p, expected, value, false, __ATOMIC_SEQ_CST,                \
                                       __ATOMIC_SEQ_CST);                                          \
  }
ATOMICS(8)
ATOMICS(32)
ATOMICS(64)
#undef ATOMICS
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) {}
}
