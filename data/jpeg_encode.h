// JPEG files from pictures: baseline, 4:2:0, with the standard's Huffman tables optimised.
#pragma once
#include "data/image.h"

namespace mullion {

// `quality`: 1 to 100, by the scale of the Independent JPEG Group.
std::vector<uint8_t> encode_jpeg(const Image& image, int quality);

}  // namespace mullion
