// What stands in for libjpeg-turbo where it was not found. stb_image's JPEG decoder writes out of
// bounds on crafted files (version 2.27) and accepts cut ones, so it has to be asked for with
// -DMULLION_STB_JPEG=ON and is for files one trusts; without it a JPEG is an error.
#ifndef MULLION_HAVE_TURBOJPEG
#include <cstring>
#include <memory>

#include "data/jpeg.h"
#include "tensor/check.h"

#ifdef MULLION_STB_JPEG
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_JPEG
#define STBI_NO_STDIO
#include <stb/stb_image.h>
#endif

namespace mullion {

#ifdef MULLION_STB_JPEG
Box decode_jpeg(Bytes file, const JpegLayout& layout, const CropRect& crop, int, int, Image& out,
                NoteSet&, const std::string& name) {
  int width = 0, height = 0, channels = 0;
  const std::unique_ptr<stbi_uc, void (*)(void*)> all(
      stbi_load_from_memory(file.data(), static_cast<int>(file.size()), &width, &height, &channels,
                            3),
      stbi_image_free);
  CHECK_AS(Fault::bad_file, all != nullptr, name, ": JPEG: ", stbi_failure_reason());
  CHECK_AS(Fault::bad_file, width == layout.width && height == layout.height, name,
           ": JPEG: two sizes in one file");
  out.resize(crop.width, crop.height);
  for (int y = 0; y < crop.height; ++y) {
    const size_t from = (static_cast<size_t>(crop.y + y) * width + crop.x) * 3;
    std::memcpy(out.row(y), all.get() + from, static_cast<size_t>(crop.width) * 3);
  }
  return {0, 0, double(crop.width), double(crop.height)};
}
#else
Box decode_jpeg(Bytes, const JpegLayout&, const CropRect&, int, int, Image&, NoteSet&,
                const std::string& name) {
  throw Error(name + ": this build cannot decode JPEG", Fault::other,
              "install libturbojpeg0-dev and build again");
}
#endif

}  // namespace mullion
#endif  // MULLION_HAVE_TURBOJPEG
