// JPEG files from pictures: baseline, 4:2:0, with the standard's Huffman tables optimised.
#pragma once
#include "data/image.h"

namespace mullion {

// `quality`: 1 to 100, by the scale of the Independent JPEG Group. `orientation`: 2 to 8 is written
// as an EXIF block, for a picture that is stored turned; 1 and below: none.
std::vector<uint8_t> encode_jpeg(const Image& image, int quality, int orientation = 0);

}  // namespace mullion
