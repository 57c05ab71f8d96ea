// Pictures from files: the type is what the first bytes say, never the file's name.
#pragma once
#include "data/image.h"
#include "data/image_notes.h"
#include "data/orientation.h"

namespace mullion {

// The whole of a regular file. Opened without blocking, so that a pipe or a device in a folder is
// an error and not a stall; a file that shrinks while it is read is an error too. `out` keeps its
// memory from call to call.
void read_regular_file(const std::string& path, std::vector<uint8_t>& out,
                       int64_t max_bytes = int64_t{1} << 28);

// A file in memory with its header checked; throws bad_file for anything but JPEG and PNG, with the
// kind's name where its first bytes tell it (WebP, HEIC, GIF, a Git LFS pointer, ...). With
// ExifUse::apply the picture is upright: sizes, crops and pixels are those of the turned picture.
class EncodedImage {
 public:
  EncodedImage(Bytes file, const std::string& name, const ImageLimits& limits = {},
               ExifUse exif = ExifUse::ignore);
  int width() const { return turn_.exchange ? stored_height_ : stored_width_; }
  int height() const { return turn_.exchange ? stored_width_ : stored_height_; }
  ImageType type() const { return type_; }
  int orientation() const { return orientation_; }  // as the file says, 1 to 8; 0: it does not
  // What was passed over so far, some of which only decoding finds; for one thread.
  NoteSet notes() const { return notes_; }

  // The pixels of `crop`, perhaps at a lower resolution that still has min_width × min_height
  // pixels of it (JPEG; 0: full resolution). Returns where the crop lies in `out`.
  Box decode(const CropRect& crop, int min_width, int min_height, Image& out) const;
  void decode(Image& out) const { decode({0, 0, width(), height()}, 0, 0, out); }

 private:
  Bytes file_;
  std::string name_;
  ImageLimits limits_;
  ImageType type_ = ImageType::unknown;
  int stored_width_ = 0, stored_height_ = 0, orientation_ = 0;
  Turn turn_{1};
  mutable NoteSet notes_;
};

Image read_image(const std::string& path);

// A name for messages: control characters and bytes that are not valid UTF-8 become \xNN.
std::string printable(const std::string& name);

}  // namespace mullion
