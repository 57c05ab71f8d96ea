// Pictures from files: the type is what the first bytes say, never the file's name.
#pragma once
#include "data/image.h"

namespace mullion {

// The whole of a regular file. Opened without blocking, so that a pipe or a device in a folder is
// an error and not a stall; a file that shrinks while it is read is an error too. `out` keeps its
// memory from call to call.
void read_regular_file(const std::string& path, std::vector<uint8_t>& out,
                       int64_t max_bytes = int64_t{1} << 28);

// A file in memory with its header checked; throws bad_file for anything but JPEG and PNG.
class EncodedImage {
 public:
  EncodedImage(Bytes file, const std::string& name, const ImageLimits& limits = {});
  int width() const { return width_; }
  int height() const { return height_; }
  ImageType type() const { return type_; }

  // The pixels of `crop`, perhaps at a lower resolution that still has min_width × min_height
  // pixels of it (JPEG; 0: full resolution). Returns where the crop lies in `out`.
  Box decode(const CropRect& crop, int min_width, int min_height, Image& out) const;
  void decode(Image& out) const { decode({0, 0, width_, height_}, 0, 0, out); }

 private:
  Bytes file_;
  std::string name_;
  ImageLimits limits_;
  ImageType type_ = ImageType::unknown;
  int width_ = 0, height_ = 0;
};

Image read_image(const std::string& path);

// A name for messages: bytes that are not printable ASCII or valid UTF-8 become \xNN.
std::string printable(const std::string& name);

}  // namespace mullion
