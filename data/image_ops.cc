// One function an operation, in Pillow's own order of roundings.
#include "data/image_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace mullion {
namespace {

using Table = std::array<uint8_t, 256>;
using Histogram = std::array<int64_t, 256>;

uint8_t clipped(int64_t level) { return static_cast<uint8_t>(std::clamp<int64_t>(level, 0, 255)); }

void look_up(Image& image, const Table& table) {
  for (uint8_t& level : image.pixels) level = table[level];
}

void look_up(Image& image, const std::array<Table, 3>& tables) {
  for (size_t i = 0; i < image.pixels.size(); i += 3)
    for (size_t c = 0; c < 3; ++c) image.pixels[i + c] = tables[c][image.pixels[i + c]];
}

std::array<Histogram, 3> histograms(const Image& image) {
  std::array<Histogram, 3> counts{};
  for (size_t i = 0; i < image.pixels.size(); i += 3)
    for (size_t c = 0; c < 3; ++c) ++counts[c][image.pixels[i + c]];
  return counts;
}

template <typename Level>
Table table_of(Level level) {
  Table table;
  for (int i = 0; i < 256; ++i) table[static_cast<size_t>(i)] = clipped(level(i));
  return table;
}

// Pillow's "L": ITU-R BT.601 in 16 bits after the point.
int grey(const uint8_t* p) { return (19595 * p[0] + 38470 * p[1] + 7471 * p[2] + 0x8000) >> 16; }

// Cut off, not rounded, as Pillow's blend does; for levels in [0, 255] and any factor.
uint8_t blended(int other, int level, float factor) {
  const float value = static_cast<float>(other) + factor * static_cast<float>(level - other);
  return static_cast<uint8_t>(std::clamp(value, 0.0f, 255.0f));
}

}  // namespace

void auto_contrast(Image& image) {
  const auto counts = histograms(image);
  std::array<Table, 3> tables;
  for (size_t c = 0; c < 3; ++c) {
    int low = 0, high = 255;
    while (low < 255 && counts[c][static_cast<size_t>(low)] == 0) ++low;
    while (high > 0 && counts[c][static_cast<size_t>(high)] == 0) --high;
    if (high <= low) {
      tables[c] = table_of([](int i) { return i; });
      continue;
    }
    const double scale = 255.0 / (high - low), offset = -low * scale;
    tables[c] = table_of([&](int i) { return static_cast<int64_t>(i * scale + offset); });
  }
  look_up(image, tables);
}

void equalize(Image& image) {
  const auto counts = histograms(image);
  const int64_t pixels = int64_t{image.width} * image.height;
  std::array<Table, 3> tables;
  for (size_t c = 0; c < 3; ++c) {
    int64_t last = 0, levels = 0;
    for (const int64_t n : counts[c])
      if (n > 0) last = n, ++levels;
    const int64_t step = levels > 1 ? (pixels - last) / 255 : 0;
    int64_t before = step / 2;
    tables[c] = table_of([&](int i) {
      if (step == 0) return int64_t{i};
      const int64_t level = before / step;
      before += counts[c][static_cast<size_t>(i)];
      return level;
    });
  }
  look_up(image, tables);
}

void invert(Image& image) {
  look_up(image, table_of([](int i) { return 255 - i; }));
}

void solarize(Image& image, int threshold) {
  look_up(image, table_of([&](int i) { return i < threshold ? i : 255 - i; }));
}

void solarize_add(Image& image, int add) {
  look_up(image, table_of([&](int i) { return i < 128 ? i + add : i; }));
}

void posterize(Image& image, int bits) {
  const int mask = bits >= 8 ? 255 : ~((1 << (8 - bits)) - 1) & 255;
  look_up(image, table_of([&](int i) { return i & mask; }));
}

void adjust_brightness(Image& image, float factor) {
  look_up(image, table_of([&](int i) { return blended(0, i, factor); }));
}

void adjust_color(Image& image, float factor) {
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    uint8_t* p = image.pixels.data() + i;
    const int other = grey(p);
    for (int c = 0; c < 3; ++c) p[c] = blended(other, p[c], factor);
  }
}

void adjust_contrast(Image& image, float factor) {
  int64_t sum = 0;
  for (size_t i = 0; i < image.pixels.size(); i += 3) sum += grey(image.pixels.data() + i);
  const double pixels = static_cast<double>(image.width) * image.height;
  const int mean = static_cast<int>(static_cast<double>(sum) / pixels + 0.5);
  look_up(image, table_of([&](int i) { return blended(mean, i, factor); }));
}

void adjust_sharpness(Image& image, float factor) {
  if (image.width < 3 || image.height < 3) return;  // all edge, which smoothing leaves as it is
  const Image from = image;
  const size_t row = static_cast<size_t>(image.width) * 3;
  for (int y = 1; y < image.height - 1; ++y) {
    const uint8_t* p = from.row(y);
    uint8_t* to = image.row(y);
    for (size_t i = 3; i < row - 3; ++i) {
      int sum = 4 * p[i];
      for (const uint8_t* line : {p - row, p, p + row}) sum += line[i - 3] + line[i] + line[i + 3];
      to[i] = blended((2 * sum + 13) / 26, p[i], factor);
    }
  }
}

namespace {

typedef float Pixel __attribute__((vector_size(16)));
typedef uint8_t PixelBytes __attribute__((vector_size(4)));

Pixel load(const uint32_t* from) {
  PixelBytes bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return __builtin_convertvector(bytes, Pixel);
}

// Weights of the taps −1, 0, 1, 2 at a distance d in [0, 1) from tap 0.
std::array<float, 4> weights(float d, Interpolation interpolation) {
  if (interpolation == Interpolation::bilinear) return {0, 1 - d, d, 0};
  const float d2 = d * d, d3 = d2 * d;  // Keys' kernel with a = −1
  return {-d + 2 * d2 - d3, 1 - 2 * d2 + d3, d + d2 - d3, d3 - d2};
}

}  // namespace

void affine(Image& image, const std::array<double, 6>& m, Interpolation interpolation,
            const std::array<uint8_t, 3>& fill) {
  const int width = image.width, height = image.height;
  std::vector<uint32_t> from(static_cast<size_t>(width) * height);
  for (size_t i = 0; i < from.size(); ++i) std::memcpy(&from[i], &image.pixels[3 * i], 3);
  const bool cubic = interpolation == Interpolation::bicubic;
  const int first = cubic ? 0 : 1, end = cubic ? 4 : 3;
  for (int y = 0; y < height; ++y) {
    uint8_t* to = image.row(y);
    for (int x = 0; x < width; ++x, to += 3) {
      const double sx = m[0] * (x + 0.5) + m[1] * (y + 0.5) + m[2];
      const double sy = m[3] * (x + 0.5) + m[4] * (y + 0.5) + m[5];
      if (!(sx >= 0 && sx < width && sy >= 0 && sy < height)) {
        std::copy(fill.begin(), fill.end(), to);
        continue;
      }
      const double fx = std::floor(sx - 0.5), fy = std::floor(sy - 0.5);
      const auto wx = weights(static_cast<float>(sx - 0.5 - fx), interpolation);
      const auto wy = weights(static_cast<float>(sy - 0.5 - fy), interpolation);
      size_t column[4];
      for (int i = first; i < end; ++i)
        column[i] = static_cast<size_t>(std::clamp(static_cast<int>(fx) + i - 1, 0, width - 1));
      Pixel sum = {};
      for (int j = first; j < end; ++j) {
        const int line = std::clamp(static_cast<int>(fy) + j - 1, 0, height - 1);
        const uint32_t* row = from.data() + static_cast<size_t>(line) * width;
        Pixel across = {};
        for (int i = first; i < end; ++i) across += load(row + column[i]) * wx[i];
        sum += across * wy[j];
      }
      for (int c = 0; c < 3; ++c) to[c] = static_cast<uint8_t>(std::clamp(sum[c], 0.0f, 255.0f));
    }
  }
}

void rotate(Image& image, double degrees, Interpolation interpolation,
            const std::array<uint8_t, 3>& fill) {
  if (degrees == 0) return;
  constexpr double kDegree = 3.141592653589793 / 180;
  const double cosine = std::cos(degrees * kDegree), sine = -std::sin(degrees * kDegree);
  const double cx = image.width / 2.0, cy = image.height / 2.0;
  affine(image,
         {cosine, sine, cx - cosine * cx - sine * cy, -sine, cosine, cy + sine * cx - cosine * cy},
         interpolation, fill);
}

namespace {

// One box filter along `count` pixels that lie `stride` bytes apart, for one channel. The width
// 2·radius + 1 need not be whole: the two pixels at its ends count in part, in 24 bits after the
// point.
void box_blur(uint8_t* line, int count, size_t stride, float radius, std::vector<uint8_t>& copy) {
  const int whole = static_cast<int>(radius);
  const auto unit = static_cast<uint32_t>((1 << 24) / (radius * 2 + 1));
  const uint32_t part = ((1u << 24) - static_cast<uint32_t>(whole * 2 + 1) * unit) / 2;
  copy.resize(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i)
    copy[static_cast<size_t>(i)] = line[static_cast<size_t>(i) * stride];
  const auto at = [&](int i) -> uint32_t {
    return copy[static_cast<size_t>(std::clamp(i, 0, count - 1))];
  };
  uint32_t sum = 0;
  for (int i = -whole; i <= whole; ++i) sum += at(i);
  for (int i = 0; i < count; ++i) {
    const uint32_t ends = at(i - whole - 1) + at(i + whole + 1);
    line[static_cast<size_t>(i) * stride] =
        static_cast<uint8_t>((sum * unit + ends * part + (1u << 23)) >> 24);
    sum += at(i + whole + 1) - at(i - whole);
  }
}

}  // namespace

void gaussian_blur(Image& image, float radius) {
  constexpr int kPasses = 3;
  const float variance = radius * radius / kPasses;
  const float length = std::sqrt(12.0f * variance + 1.0f), l = std::floor((length - 1.0f) / 2.0f);
  const float a = (2 * l + 1) * (l * (l + 1) - 3 * variance) / (6 * (variance - (l + 1) * (l + 1)));
  std::vector<uint8_t> copy;
  const size_t row = static_cast<size_t>(image.width) * 3;
  for (int y = 0; y < image.height; ++y)
    for (int c = 0; c < 3; ++c)
      for (int pass = 0; pass < kPasses; ++pass)
        box_blur(image.row(y) + c, image.width, 3, l + a, copy);
  for (size_t x = 0; x < row; ++x)
    for (int pass = 0; pass < kPasses; ++pass)
      box_blur(image.pixels.data() + x, image.height, row, l + a, copy);
}

}  // namespace mullion
