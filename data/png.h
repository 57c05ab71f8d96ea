// PNG files, decoded by stb_image behind our own checks: every chunk's length and CRC, the header's
// fields, the order of the chunks. Only what the pixels need reaches stb, and stb may allocate no
// more than the header's size justifies. All colour types, depths and both interlacings become
// 8-bit RGB: 16 bits keep their high byte, alpha and tRNS are dropped (not composited), gamma and
// profiles ignored, which is what the usual ImageNet loaders do.
#pragma once
#include "data/image.h"
#include "data/image_notes.h"

namespace mullion {

struct PngLayout {
  int width = 0, height = 0;
  int components = 0;   // 1: grey, also with alpha; 3: colours, also of a palette
  int orientation = 0;  // eXIf's, else XMP's: 1 to 8, 0: none is given
  NoteSet notes;
};

// From the header and the chunks that change how the picture is to be understood. Only the header
// is checked; the rest of the file is when its pixels are decoded.
PngLayout read_png_layout(Bytes file, const ImageLimits& limits, const std::string& name);

// The whole picture; throws bad_file naming the chunk that is wrong.
void decode_png(Bytes file, const ImageLimits& limits, Image& out, const std::string& name);

// An 8-bit RGB file.
std::vector<uint8_t> encode_png(const Image& image);
void write_png(const std::string& path, const Image& image);

}  // namespace mullion
