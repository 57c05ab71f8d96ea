// What the compiler checks in the kernels of the emulator: with -fsanitize=alignment,bounds,... it
// calls these functions (the interface of GCC's and clang's runtime library for undefined
// behaviour, which is not linked), so that a misaligned access, an index outside of an array or an
// overflowing index is a Finding with kernel, block and thread.
#include <cstdint>
#include <string>

#include "tensor/simt/engine.h"
#include "tensor/simt/shared_memory.h"

#if !defined(__SANITIZE_ADDRESS__)

namespace mullion::simt {
namespace {

// The parts of the compiler's descriptions that are used.
struct Location {
  const char* file;
  uint32_t line, column;
};
struct TypeName {
  uint16_t kind, info;
  char text[1];
};
struct Mismatch {
  Location location;
  const TypeName* type;
  unsigned char log_alignment, kind;
};
struct OutOfBounds {
  Location location;
  const TypeName *array, *index;
};

std::string place(const Location& l) {
  const std::string file = l.file;
  return concat(" at ", file.substr(file.rfind('/') + 1), ":", l.line);
}
[[noreturn]] void report_at(const char* what, const void* data) {
  report(what + place(*static_cast<const Location*>(data)));
}

}  // namespace
}  // namespace mullion::simt

extern "C" {
using namespace mullion::simt;

[[noreturn]] void __ubsan_handle_type_mismatch_v1_abort(Mismatch* data, uintptr_t pointer) {
  const auto alignment = uintptr_t{1} << data->log_alignment;
  const auto* address = reinterpret_cast<const void*>(pointer);
  if (pointer % alignment == 0) report_at("access through a null pointer", data);
  report(mullion::concat("misaligned address: ", describe_address(address),
                         " is not a multiple of ", alignment, " for a ", data->type->text,
                         place(data->location)));
}
[[noreturn]] void __ubsan_handle_out_of_bounds_abort(OutOfBounds* data, uintptr_t index) {
  report(mullion::concat("index ", static_cast<int64_t>(index), " is outside of an array of type ",
                         data->array->text, place(data->location)));
}
[[noreturn]] void __ubsan_handle_add_overflow_abort(void* data, uintptr_t, uintptr_t) {
  report_at("a sum of signed integers overflows", data);
}
[[noreturn]] void __ubsan_handle_sub_overflow_abort(void* data, uintptr_t, uintptr_t) {
  report_at("a difference of signed integers overflows", data);
}
[[noreturn]] void __ubsan_handle_mul_overflow_abort(void* data, uintptr_t, uintptr_t) {
  report_at("a product of signed integers overflows", data);
}
[[noreturn]] void __ubsan_handle_negate_overflow_abort(void* data, uintptr_t) {
  report_at("the negative of an integer overflows", data);
}
[[noreturn]] void __ubsan_handle_divrem_overflow_abort(void* data, uintptr_t, uintptr_t) {
  report_at("a division by zero, or one that overflows", data);
}
[[noreturn]] void __ubsan_handle_shift_out_of_bounds_abort(void* data, uintptr_t, uintptr_t) {
  report_at("a shift by more bits than there are, or of a negative number", data);
}
}

#endif
