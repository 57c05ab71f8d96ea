// Antialiased resizing, separable, in Pillow's convention: the filter's support grows with the
// reduction, sample centres lie at half integers, and the filter is cut and renormalised at the
// picture's edge. Horizontal first, the result between the passes rounded to 8 bits.
// Bilinear: triangle of radius 1. Bicubic: Keys' kernel of radius 2 with a = −1/2.
#pragma once
#include <array>

#include "data/image.h"

namespace mullion {

enum class Interpolation { bilinear, bicubic };

// Resizes `box` of the source to width × height; of that result the window
// [x, x + window_width) × [y, y + window_height) is computed, mirrored at the end if `flip`.
struct ResizePlan {
  Box box;
  int width = 0, height = 0;
  int x = 0, y = 0, window_width = 0, window_height = 0;
  Interpolation interpolation = Interpolation::bicubic;
  bool flip = false;

  static ResizePlan whole(const Box& box, int width, int height,
                          Interpolation interpolation = Interpolation::bicubic) {
    return {box, width, height, 0, 0, width, height, interpolation, false};
  }
};

// y = x·scale + bias for levels x in [0, 255]; default: no change.
struct PixelMap {
  std::array<float, 3> scale{1, 1, 1}, bias{0, 0, 0};
};

// Keeps its buffers between calls; one a thread.
class Resizer {
 public:
  // `out`: [window_height, window_width, 3] mapped levels, not rounded to integers.
  void run(const Image& in, const ResizePlan& plan, const PixelMap& map, float* out);
  // The same rounded to 8 bits.
  void run(const Image& in, const ResizePlan& plan, Image& out);

 private:
  // The weights of each output sample: weight[i·stride + k] for source sample first[i] + k.
  struct Taps {
    int stride = 0;
    std::vector<int> first, count;
    std::vector<float> weight;
    void compute(int size, double low, double high, int out_size, int from, int n,
                 Interpolation interpolation);
    void reverse();
  };

  void prepare(const Image& in, const ResizePlan& plan);
  void horizontal(const Image& in);
  template <typename Store>
  void vertical(Store store) const;

  Taps across_, down_;
  int first_row_ = 0, rows_ = 0, row_bytes_ = 0;
  std::vector<uint32_t> interleaved_;
  std::vector<uint8_t> middle_;  // [rows_, row_bytes_], RGB, padded
};

}  // namespace mullion
