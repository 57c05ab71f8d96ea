// The orientation that EXIF (tag 274) gives a stored picture, and turning it upright.
#pragma once
#include "data/image.h"

namespace mullion {

enum class ExifUse { ignore, apply };  // ignore: pictures are used as they are stored

// 1 to 8, 1 upright; 0 where nothing says; −1 where what should say cannot be read.
// `tiff`: the block as it stands in PNG's eXIf and, behind "Exif\0\0", in JPEG's APP1.
int exif_orientation(Bytes tiff);
// The same from an XMP packet (tiff:Orientation), which counts where EXIF does not say.
int xmp_orientation(Bytes packet);

// How an upright picture's coordinates lie in the stored one: x and y exchanged first, then each
// mirrored.
struct Turn {
  bool exchange = false, mirror_x = false, mirror_y = false;
  explicit Turn(int orientation);  // 1 to 8

  bool none() const { return !exchange && !mirror_x && !mirror_y; }
  // The rectangle of a stored picture of width × height that shows the upright rectangle.
  CropRect stored(const CropRect& upright, int width, int height) const;
  // The stored picture made upright, and where a box of it then lies.
  void apply(Image& picture, Box& box) const;
};

}  // namespace mullion
