// libFuzzer harness: any bytes as a MAT-file of level 5.
#include <string>

#include "data/mat_file.h"
#include "tensor/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    mullion::read_mat_structs({reinterpret_cast<const char*>(data), size}, "synsets", "fuzz");
  } catch (const mullion::Error&) {
  }
  return 0;
}
