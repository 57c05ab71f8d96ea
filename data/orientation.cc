// The orientation in EXIF's first directory (TIFF 6.0; EXIF 2.32, section 4.6.4).
#include "data/orientation.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "tensor/check.h"

namespace mullion {
namespace {

constexpr uint32_t kOrientationTag = 274;
enum TiffType : uint32_t { kByte = 1, kShort = 3, kLong = 4 };

// Numbers of a TIFF block in its byte order; the caller stays inside the block.
struct TiffReader {
  Bytes block;
  bool big_endian;

  uint32_t number(size_t at, int bytes) const {
    uint32_t value = 0;
    for (int i = 0; i < bytes; ++i) {
      const size_t place = at + static_cast<size_t>(big_endian ? i : bytes - 1 - i);
      value = value << 8 | block[place];
    }
    return value;
  }
};

}  // namespace

int exif_orientation(Bytes tiff) {
  if (tiff.size() >= 6 && std::memcmp(tiff.data(), "Exif\0\0", 6) == 0) tiff = tiff.subspan(6);
  if (tiff.size() < 8) return -1;
  const bool big = tiff[0] == 'M' && tiff[1] == 'M', little = tiff[0] == 'I' && tiff[1] == 'I';
  const TiffReader reader{tiff, big};
  if ((!big && !little) || reader.number(2, 2) != 42) return -1;
  const size_t first = reader.number(4, 4);
  if (first < 8 || first > tiff.size() - 2) return -1;
  const size_t entries = reader.number(first, 2);
  for (size_t i = 0; i < entries; ++i) {
    const size_t at = first + 2 + 12 * i;
    if (at + 12 > tiff.size()) return -1;  // cut before the tag was found
    if (reader.number(at, 2) != kOrientationTag) continue;
    const uint32_t type = reader.number(at + 2, 2);
    if (reader.number(at + 4, 4) != 1) return -1;
    if (type != kByte && type != kShort && type != kLong) return -1;
    const uint32_t value = reader.number(at + 8, type == kByte ? 1 : type == kShort ? 2 : 4);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : -1;
  }
  return 0;
}

int xmp_orientation(Bytes packet) {
  const std::string_view text(reinterpret_cast<const char*>(packet.data()), packet.size());
  constexpr std::string_view kKey = "tiff:Orientation";
  // An attribute (tiff:Orientation="6") or an element (<tiff:Orientation>6<).
  for (size_t at = text.find(kKey); at != std::string_view::npos; at = text.find(kKey, at)) {
    at += kKey.size();
    const std::string_view rest = text.substr(at, 3);
    size_t digit = 0;
    if (rest.starts_with("=\"") || rest.starts_with("='")) digit = 2;
    if (rest.starts_with(">")) digit = 1;
    if (digit == 0 || digit >= rest.size()) continue;
    const int value = rest[digit] - '0';
    return value >= 1 && value <= 8 ? value : -1;
  }
  return 0;
}

Turn::Turn(int o)
    : exchange(o >= 5),
      mirror_x(o == 2 || o == 3 || o == 7 || o == 8),
      mirror_y(o == 3 || o == 4 || o == 6 || o == 7) {
  DCHECK(o >= 1 && o <= 8);
}

CropRect Turn::stored(const CropRect& upright, int width, int height) const {
  CropRect r = upright;
  if (exchange) r = {r.y, r.x, r.height, r.width};
  if (mirror_x) r.x = width - r.x - r.width;
  if (mirror_y) r.y = height - r.y - r.height;
  return r;
}

void Turn::apply(Image& picture, Box& box) const {
  if (none()) return;
  const int w = picture.width, h = picture.height;
  Image upright;
  upright.resize(exchange ? h : w, exchange ? w : h);
  uint8_t* to = upright.pixels.data();
  for (int y = 0; y < upright.height; ++y) {
    for (int x = 0; x < upright.width; ++x, to += 3) {
      const int u = exchange ? y : x, v = exchange ? x : y;
      const uint8_t* from = picture.row(mirror_y ? h - 1 - v : v) + 3 * (mirror_x ? w - 1 - u : u);
      to[0] = from[0], to[1] = from[1], to[2] = from[2];
    }
  }
  picture = std::move(upright);
  if (mirror_x) box = {w - box.x1, box.y0, w - box.x0, box.y1};
  if (mirror_y) box = {box.x0, h - box.y1, box.x1, h - box.y0};
  if (exchange) box = {box.y0, box.x0, box.y1, box.x1};
}

}  // namespace mullion
