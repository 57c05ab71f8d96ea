// The marker structure of a JPEG file (ITU-T T.81, annex B), read without decoding anything.
#include <algorithm>
#include <cstring>
#include <string_view>

#include "data/jpeg.h"
#include "data/orientation.h"
#include "tensor/check.h"

namespace mullion {
namespace {

constexpr int kStartOfImage = 0xD8, kEndOfImage = 0xD9, kStartOfScan = 0xDA, kApp1 = 0xE1;

class MarkerWalk {
 public:
  MarkerWalk(Bytes file, const ImageLimits& limits, const std::string& name)
      : file_(file), limits_(limits), name_(name) {}

  JpegLayout run() {
    CHECK_AS(Fault::bad_file, file_.size() >= 4 && file_[0] == 0xFF && file_[1] == kStartOfImage,
             name_, ": not a JPEG file");
    at_ = 2;
    for (int marker = next_marker(); marker != kEndOfImage; marker = next_marker()) {
      segment(marker);
    }
    CHECK_AS(Fault::bad_file, layout_.scans > 0, name_, ": JPEG: no picture before its end");
    if (exif_ < 0 || (exif_ == 0 && xmp_ < 0)) layout_.notes.add(ImageNote::bad_exif);
    layout_.orientation = exif_ > 0 ? exif_ : std::max(xmp_, 0);
    return layout_;
  }

 private:
  void need(size_t n) {
    CHECK_AS(Fault::bad_file, n <= file_.size() - at_, name_, ": JPEG: cut at byte ", file_.size());
  }

  uint8_t next_byte() {
    need(1);
    return file_[at_++];
  }

  // Bytes before a marker, stuffed zeros among them, and markers that stand alone and mean nothing
  // here are passed over, as libjpeg does.
  int next_marker() {
    for (;;) {
      int byte = next_byte();
      if (byte != 0xFF) {
        layout_.notes.add(ImageNote::skipped_bytes);
        continue;
      }
      while (byte == 0xFF) byte = next_byte();
      if (byte > 1 && !(byte >= 0xD0 && byte <= 0xD7)) return byte;
      layout_.notes.add(ImageNote::skipped_bytes);
    }
  }

  void segment(int marker) {
    CHECK_AS(Fault::bad_file, marker >= 0xC0 && marker != kStartOfImage, name_, ": JPEG: marker ",
             marker, " out of place at byte ", at_);
    need(2);
    const size_t length = file_[at_] * 256u + file_[at_ + 1];
    CHECK_AS(Fault::bad_file, length >= 2, name_, ": JPEG: segment of length ", length);
    need(length);
    const bool frame =
        marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
    const Bytes body = file_.subspan(at_ + 2, length - 2);
    if (frame) start_of_frame(marker, body);
    if (marker == kApp1) orientation(body);
    at_ += length;
    if (marker == kStartOfScan) skip_scan();
  }

  void start_of_frame(int marker, Bytes body) {
    CHECK_AS(Fault::bad_file, layout_.width == 0, name_, ": JPEG: two frame headers");
    CHECK_AS(Fault::bad_file, marker <= 0xC2, name_, ": JPEG: ",
             marker == 0xC3  ? "lossless"
             : marker < 0xC8 ? "hierarchical"
             : marker < 0xCC ? "arithmetic coding"
                             : "hierarchical",
             " is not supported");
    CHECK_AS(Fault::bad_file, body.size() >= 6, name_, ": JPEG: short frame header");
    CHECK_AS(Fault::bad_file, body[0] == 8, name_, ": JPEG: ", int{body[0]},
             " bits a sample are not supported, only 8");
    layout_.height = body[1] * 256 + body[2];
    layout_.width = body[3] * 256 + body[4];
    layout_.components = body[5];
    layout_.progressive = marker == 0xC2;
    const int n = layout_.components;
    CHECK_AS(Fault::bad_file, n == 1 || n == 3 || n == 4, name_, ": JPEG: ", n, " components");
    CHECK_AS(Fault::bad_file, body.size() == 6u + 3u * n, name_, ": JPEG: frame header of ",
             body.size(), " bytes for ", n, " components");
    check_image_size(layout_.width, layout_.height, file_.size(), limits_, name_);
  }

  void orientation(Bytes body) {
    constexpr std::string_view kExif{"Exif\0\0", 6}, kXmp{"http://ns.adobe.com/xap/1.0/\0", 29};
    const std::string_view text(reinterpret_cast<const char*>(body.data()), body.size());
    if (exif_ == 0 && text.starts_with(kExif)) exif_ = exif_orientation(body.subspan(6));
    if (xmp_ == 0 && text.starts_with(kXmp)) xmp_ = xmp_orientation(body.subspan(kXmp.size()));
  }

  // Entropy-coded data ends at the first marker that is neither a stuffed zero nor a restart.
  void skip_scan() {
    CHECK_AS(Fault::bad_file, layout_.width > 0, name_, ": JPEG: scan before the frame header");
    ++layout_.scans;
    CHECK_AS(Fault::bad_file, layout_.scans <= limits_.max_scans, name_, ": JPEG: more than ",
             limits_.max_scans, " scans");
    for (;;) {
      const void* hit = std::memchr(file_.data() + at_, 0xFF, file_.size() - at_);
      CHECK_AS(Fault::bad_file, hit != nullptr, name_, ": JPEG: cut at byte ", file_.size());
      at_ = static_cast<size_t>(static_cast<const uint8_t*>(hit) - file_.data());
      need(2);
      const int code = file_[at_ + 1];
      if (code == 0xFF) {
        ++at_;
      } else if (code == 0 || (code >= 0xD0 && code <= 0xD7)) {
        at_ += 2;
      } else {
        return;
      }
    }
  }

  Bytes file_;
  const ImageLimits& limits_;
  const std::string& name_;
  size_t at_ = 0;
  int exif_ = 0, xmp_ = 0;  // orientations
  JpegLayout layout_;
};

}  // namespace

void check_image_size(int64_t width, int64_t height, size_t file_bytes, const ImageLimits& limits,
                      const std::string& name) {
  CHECK_AS(Fault::bad_file, width > 0 && height > 0, name, ": picture of ", width, "x", height);
  CHECK_AS(Fault::bad_file, width <= limits.max_side && height <= limits.max_side, name,
           ": picture of ", width, "x", height, " is over the limit of ", limits.max_side,
           " pixels a side");
  const int64_t pixels = width * height;
  CHECK_AS(Fault::bad_file, pixels <= limits.max_pixels, name, ": picture of ", width, "x", height,
           " is over the limit of ", limits.max_pixels, " pixels");
  const int64_t allowed = static_cast<int64_t>(file_bytes) * limits.max_ratio;
  CHECK_AS(Fault::bad_file, pixels <= 1'000'000 || pixels * 3 <= allowed, name, ": picture of ",
           width, "x", height, " in a file of ", file_bytes, " bytes is over the limit of ",
           limits.max_ratio, " to 1");
}

JpegLayout read_jpeg_layout(Bytes file, const ImageLimits& limits, const std::string& name) {
  return MarkerWalk(file, limits, name).run();
}

}  // namespace mullion
