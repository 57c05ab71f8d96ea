// Colours by the largest value, enlargement by whole pixels, frames and sheets.
#include "apps/tic/heat.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "tensor/check.h"

namespace mullion {
namespace {

using Colour = std::array<double, 3>;
constexpr int kGap = 4;
constexpr Colour kLow = {255, 255, 255}, kMiddle = {0, 92, 150}, kHigh = {213, 40, 0};

// share from 0 to 1
Colour colour_of(double share) {
  const Colour& from = share < 0.5 ? kLow : kMiddle;
  const Colour& to = share < 0.5 ? kMiddle : kHigh;
  const double part = share < 0.5 ? 2 * share : 2 * share - 1;
  Colour colour;
  for (size_t c = 0; c < 3; ++c) colour[c] = from[c] + part * (to[c] - from[c]);
  return colour;
}

uint8_t level(double value) { return static_cast<uint8_t>(std::clamp(value, 0.0, 255.0) + 0.5); }

double largest(const HeatMap& map, float top) {
  if (top > 0) return top;
  const float most = *std::max_element(map.values.begin(), map.values.end());
  return most > 0 ? most : 1;
}

double share_at(const HeatMap& map, int x, int y, double top) {
  return std::min(1.0, map.at(x, y) / top);
}

}  // namespace

Image coloured(const HeatMap& map, int scale, float top) {
  const double most = largest(map, top);
  Image image;
  image.resize(map.width * scale, map.height * scale);
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x) {
      const Colour colour = colour_of(share_at(map, x / scale, y / scale, most));
      for (size_t c = 0; c < 3; ++c) image.row(y)[3 * x + static_cast<int>(c)] = level(colour[c]);
    }
  return image;
}

Image overlaid(const Image& picture, const HeatMap& map, int cell, float top) {
  const double most = largest(map, top);
  Image image = picture;
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x) {
      uint8_t* pixel = image.row(y) + static_cast<ptrdiff_t>(3) * x;
      const double grey = 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2];
      const double share = share_at(map, x / cell, y / cell, most);
      const Colour colour = colour_of(0.5 + share / 2);
      const double strength = 0.75 * std::sqrt(share);  // so that little is seen as well
      for (size_t c = 0; c < 3; ++c) pixel[c] = level(grey + strength * (colour[c] - grey));
    }
  return image;
}

Image enlarged(const Image& image, int times) {
  Image large;
  large.resize(image.width * times, image.height * times);
  for (int y = 0; y < large.height; ++y)
    for (int x = 0; x < large.width; ++x)
      std::copy_n(image.row(y / times) + static_cast<ptrdiff_t>(3) * (x / times), 3,
                  large.row(y) + static_cast<ptrdiff_t>(3) * x);
  return large;
}

void frame(Image& image, int x0, int y0, int width, int height) {
  constexpr uint8_t kFrame[3] = {255, 220, 0};
  const auto dot = [&](int x, int y) {
    if (x >= 0 && x < image.width && y >= 0 && y < image.height)
      std::copy_n(kFrame, 3, image.row(y) + static_cast<ptrdiff_t>(3) * x);
  };
  for (int x = x0 - 1; x <= x0 + width; ++x) {
    dot(x, y0 - 1);
    dot(x, y0 + height);
  }
  for (int y = y0 - 1; y <= y0 + height; ++y) {
    dot(x0 - 1, y);
    dot(x0 + width, y);
  }
}

Image sheet(const std::vector<Image>& images, int across) {
  CHECK(!images.empty() && across > 0, "sheet: ", images.size(), " images, ", across, " a row");
  const int w = images[0].width, h = images[0].height;
  const int down = (static_cast<int>(images.size()) + across - 1) / across;
  across = std::min(across, static_cast<int>(images.size()));
  Image all;
  all.resize(across * (w + kGap) - kGap, down * (h + kGap) - kGap);
  std::fill(all.pixels.begin(), all.pixels.end(), uint8_t{255});
  for (size_t i = 0; i < images.size(); ++i) {
    const int left = static_cast<int>(i) % across * (w + kGap),
              top = static_cast<int>(i) / across * (h + kGap);
    for (int y = 0; y < h; ++y)
      std::copy_n(images[i].row(y), 3 * w, all.row(top + y) + static_cast<ptrdiff_t>(3) * left);
  }
  return all;
}

}  // namespace mullion
