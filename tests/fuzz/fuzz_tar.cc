// libFuzzer harness: any bytes as a tar archive. Each header's checksum is put right first, since a
// mutation would otherwise never get beyond that check. Members must lie within the archive.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>

#include "data/tar.h"
#include "tensor/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  for (size_t at = 0; at + 512 <= bytes.size(); at += 512) {
    unsigned sum = 0;
    bytes.replace(at + 148, 8, 8, ' ');
    for (size_t i = 0; i < 512; ++i) sum += static_cast<uint8_t>(bytes[at + i]);
    if (sum == 8 * ' ') {  // a block of zeros
      bytes.replace(at + 148, 8, 8, '\0');
      continue;
    }
    char octal[8];
    std::snprintf(octal, sizeof octal, "%06o", sum);
    bytes.replace(at + 148, 7, octal, 7);
  }
  try {
    const auto source = mullion::view_bytes(std::as_bytes(std::span(bytes)), "fuzz");
    mullion::TarReader tar(*source);
    mullion::TarMember member;
    while (tar.next(member))
      if (member.offset > bytes.size() || member.size > bytes.size() - member.offset ||
          member.name.empty())
        std::abort();
  } catch (const mullion::Error&) {
  }
  return 0;
}
