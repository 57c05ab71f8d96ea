// A picture in memory and the small records that decoders, resizing and cropping share.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace mullion {

// RGB, 8 bits a channel, rows from top to bottom without padding: pixels[(y·width + x)·3 + c].
struct Image {
  int width = 0, height = 0, channels = 3;
  std::vector<uint8_t> pixels;

  void resize(int w, int h) {
    width = w, height = h;
    pixels.resize(static_cast<size_t>(w) * h * channels);
  }
  uint8_t* row(int y) { return pixels.data() + static_cast<size_t>(y) * width * channels; }
  const uint8_t* row(int y) const {
    return pixels.data() + static_cast<size_t>(y) * width * channels;
  }
};

// A rectangle of whole pixels.
struct CropRect {
  int x = 0, y = 0, width = 0, height = 0;
};

// A rectangle in pixel coordinates: pixel i covers [i, i + 1).
struct Box {
  double x0 = 0, y0 = 0, x1 = 0, y1 = 0;
};

// What a file may claim before any memory is set aside for it.
struct ImageLimits {
  int64_t max_pixels = 64'000'000;
  int64_t max_side = 65'535;
  int max_scans = 256;       // of a progressive JPEG
  int64_t max_ratio = 1000;  // RGB bytes to file bytes, for pictures of more than a million pixels
};

enum class ImageType { unknown, jpeg, png };

using Bytes = std::span<const uint8_t>;

// Throws bad_file, naming the file and both sizes, where a header claims more than the limits or
// more than `file_bytes` can honestly hold.
void check_image_size(int64_t width, int64_t height, size_t file_bytes, const ImageLimits& limits,
                      const std::string& name);

}  // namespace mullion
