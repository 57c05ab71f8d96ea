// libFuzzer harness: any bytes as a PNG file. The CRC of every chunk is put right first, since a
// mutation would otherwise never get beyond that check.
#include <cstring>
#include <vector>

#include "data/decode.h"
#include "tensor/check.h"

namespace {

uint32_t crc32(const uint8_t* p, size_t n) {
  uint32_t c = 0xFFFFFFFFu;
  for (size_t i = 0; i < n; ++i) {
    c ^= p[i];
    for (int k = 0; k < 8; ++k) c = (c & 1) ? 0xEDB88320u ^ (c >> 1) : c >> 1;
  }
  return ~c;
}

void repair(std::vector<uint8_t>& png) {
  for (size_t at = 8; at + 12 <= png.size();) {
    const size_t n = size_t{png[at]} << 24 | size_t{png[at + 1]} << 16 | size_t{png[at + 2]} << 8 |
                     size_t{png[at + 3]};
    if (n > png.size() - at - 12) return;
    const uint32_t crc = crc32(&png[at + 4], n + 4);
    for (int i = 0; i < 4; ++i) png[at + 8 + n + size_t(i)] = uint8_t(crc >> (24 - 8 * i));
    at += n + 12;
  }
}

void decode(const std::vector<uint8_t>& bytes) {
  mullion::ImageLimits limits;
  limits.max_pixels = 1 << 20;
  try {
    const mullion::EncodedImage file(bytes, "fuzz", limits, mullion::ExifUse::apply);
    if (file.type() != mullion::ImageType::png) return;
    mullion::Image image;
    file.decode(image);
  } catch (const mullion::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint8_t> bytes(data, data + size);
  decode(bytes);
  repair(bytes);
  decode(bytes);
  return 0;
}
