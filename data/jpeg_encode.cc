// By libjpeg into memory; its errors become exceptions.
#include "data/jpeg_encode.h"

#include "tensor/check.h"

#ifdef MULLION_HAVE_TURBOJPEG
#include <array>
#include <cstdlib>

#include "data/jpeg_error.h"

namespace mullion {
namespace {

// EXIF with nothing but the orientation: a TIFF block of one entry, tag 274, one short, big-endian.
std::array<uint8_t, 32> exif_of(int orientation) {
  return {'E', 'x', 'i', 'f',  0,    0, 'M', 'M', 0, 42, 0, 0, 0,
          8,   0,   1,   0x01, 0x12, 0, 3,   0,   0, 0,  1, 0, static_cast<uint8_t>(orientation)};
}

// libjpeg's errors come back by longjmp, so nothing with a destructor lives here.
bool encode(const Image& image, int quality, int orientation, jpeg_compress_struct& info,
            JpegErrorExit& errors, unsigned char** bytes, unsigned long* size) {
  if (setjmp(errors.escape) != 0) return false;
  jpeg_create_compress(&info);
  jpeg_mem_dest(&info, bytes, size);
  info.image_width = static_cast<JDIMENSION>(image.width);
  info.image_height = static_cast<JDIMENSION>(image.height);
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, quality, TRUE);
  info.optimize_coding = TRUE;
  jpeg_start_compress(&info, TRUE);
  if (orientation > 1) {
    const auto exif = exif_of(orientation);
    jpeg_write_marker(&info, JPEG_APP0 + 1, exif.data(), static_cast<unsigned>(exif.size()));
  }
  for (int y = 0; y < image.height; ++y) {
    JSAMPROW row = const_cast<JSAMPROW>(image.row(y));
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  return true;
}

}  // namespace

std::vector<uint8_t> encode_jpeg(const Image& image, int quality, int orientation) {
  CHECK(image.channels == 3 && image.width > 0 && image.height > 0, "jpeg: an empty picture");
  CHECK(quality >= 1 && quality <= 100, "jpeg: quality ", quality);
  CHECK(orientation <= 8, "jpeg: orientation ", orientation);
  jpeg_compress_struct info{};
  JpegErrorExit errors{};
  info.err = jpeg_std_error(&errors.base);
  errors.base.error_exit = jpeg_error_exit;
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  const bool done = encode(image, quality, orientation, info, errors, &bytes, &size);
  std::vector<uint8_t> file;
  if (done) file.assign(bytes, bytes + size);
  jpeg_destroy_compress(&info);
  std::free(bytes);
  CHECK(done, "jpeg: cannot encode: ", errors.message);
  return file;
}

}  // namespace mullion
#else
namespace mullion {
std::vector<uint8_t> encode_jpeg(const Image&, int, int) {
  fail(Fault::other, "this build has no libjpeg-turbo, which writes JPEG files");
}
}  // namespace mullion
#endif
