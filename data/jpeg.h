// JPEG files. The markers are walked by our own code first, so that size, kind, number of scans and
// the end marker are known before libjpeg-turbo sees the file; then only the wanted rectangle is
// decoded, at a DCT scale of 1, 1/2, 1/4 or 1/8. A warning of libjpeg that means missing or wrong
// data is an error; the others become notes (table in jpeg.cc). Colour profiles are ignored, as in
// the usual ImageNet loaders.
#pragma once
#include "data/image.h"
#include "data/image_notes.h"

namespace mullion {

struct JpegLayout {
  int width = 0, height = 0, components = 0, scans = 0;
  bool progressive = false;
  int orientation = 0;  // EXIF's, else XMP's: 1 to 8, 0: none is given
  NoteSet notes;
};

// Reads the markers from SOI to EOI, passing over bytes that stand between segments; throws
// bad_file for a cut file, one that is over the limits, and for kinds that are refused by name
// (12-bit, arithmetic, lossless, hierarchical).
JpegLayout read_jpeg_layout(Bytes file, const ImageLimits& limits, const std::string& name);

// Decodes `crop` of a file whose layout was read before. The scale is the smallest that leaves at
// least min_width × min_height pixels of the crop (0: full size). `out` gets the smallest rectangle
// of scaled pixels around the crop; returns where the crop lies in it. At full size the pixels
// equal those of a decode of the whole file. Grey is expanded; CMYK and YCCK are taken as inverted,
// as Adobe writes them (and Pillow reads all), and become RGB as C·K/255. Adds to `notes` what was
// passed over.
Box decode_jpeg(Bytes file, const JpegLayout& layout, const CropRect& crop, int min_width,
                int min_height, Image& out, NoteSet& notes, const std::string& name);

}  // namespace mullion
