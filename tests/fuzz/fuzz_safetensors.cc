// libFuzzer harness of the safetensors reader: whatever it accepts can be read to the last byte.
#include "tensor/check.h"
#include "tensor/io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const mullion::SafetensorsFile file(
        mullion::view_bytes(std::as_bytes(std::span(data, size)), "fuzz"));
    uint64_t total = 0;
    for (const mullion::TensorEntry& entry : file.entries()) {
      total += entry.bytes;
      std::vector<std::byte> raw(entry.bytes);
      file.read_raw(entry.name, raw);
      if (!mullion::converts_to_f32(entry.type)) continue;
      std::vector<float> values(entry.count);
      try {
        file.read_f32(entry.name, values.data());
      } catch (const mullion::Error&) {  // not finite
      }
    }
    if (total >= size) __builtin_trap();  // the tensors never exceed the file
  } catch (const mullion::Error&) {
  }
  return 0;
}
