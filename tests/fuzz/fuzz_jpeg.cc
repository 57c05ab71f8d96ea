// libFuzzer harness: any bytes as a JPEG file, whole, cropped and at a lower scale, as stored and
// turned upright.
#include "data/decode.h"
#include "tensor/check.h"

namespace {

using namespace mullion;

void decode(Bytes bytes, ExifUse exif) {
  ImageLimits limits;
  limits.max_pixels = 1 << 20;  // keeps one run short
  limits.max_scans = 32;
  try {
    const EncodedImage file(bytes, "fuzz", limits, exif);
    if (file.type() != ImageType::jpeg) return;
    if (exif == ExifUse::apply && file.orientation() < 2) return;  // the same as stored
    Image image;
    const int w = file.width(), h = file.height();
    const CropRect crop{w / 3, h / 3, (w + 1) / 2, (h + 1) / 2};
    try {
      file.decode(crop, (crop.width + 2) / 3, (crop.height + 2) / 3, image);
      file.decode(crop, 0, 0, image);
    } catch (const Error&) {
    }
    file.decode(image);
  } catch (const Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  for (const ExifUse exif : {ExifUse::ignore, ExifUse::apply}) decode({data, size}, exif);
  return 0;
}
