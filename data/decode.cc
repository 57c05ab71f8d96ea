#include "data/decode.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "data/jpeg.h"
#include "data/png.h"
#include "tensor/check.h"

namespace mullion {
namespace {

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

JpegLayout layout_of(int width, int height) {
  JpegLayout layout;
  layout.width = width, layout.height = height;
  return layout;
}

void cut_out(const CropRect& crop, Image& image) {
  if (crop.width == image.width && crop.height == image.height) return;
  const size_t bytes = static_cast<size_t>(crop.width) * 3;
  const size_t stride = static_cast<size_t>(image.width) * 3;
  for (int y = 0; y < crop.height; ++y) {
    const uint8_t* from = image.pixels.data() + (crop.y + y) * stride + crop.x * size_t{3};
    std::memmove(image.pixels.data() + y * bytes, from, bytes);
  }
  image.resize(crop.width, crop.height);
}

// Length of the valid UTF-8 sequence at s[i], 0 if there is none.
size_t utf8_length(const std::string& s, size_t i) {
  const uint8_t lead = static_cast<uint8_t>(s[i]);
  const size_t n = lead < 0x80                   ? 1
                   : lead >= 0xC2 && lead < 0xE0 ? 2
                   : lead >= 0xE0 && lead < 0xF0 ? 3
                   : lead >= 0xF0 && lead < 0xF5 ? 4
                                                 : 0;
  if (n == 0 || i + n > s.size()) return 0;
  for (size_t k = 1; k < n; ++k) {
    if ((static_cast<uint8_t>(s[i + k]) & 0xC0) != 0x80) return 0;
  }
  return n;
}

}  // namespace

std::string printable(const std::string& name) {
  static const char* kHex = "0123456789abcdef";
  std::string out;
  for (size_t i = 0; i < name.size();) {
    const size_t n = utf8_length(name, i);
    const uint8_t byte = static_cast<uint8_t>(name[i]);
    if (n == 0 || byte < 0x20 || byte == 0x7F) {
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
      ++i;
    } else {
      out.append(name, i, n);
      i += n;
    }
  }
  return out;
}

void read_regular_file(const std::string& path, std::vector<uint8_t>& out, int64_t max_bytes) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)};
  CHECK_AS(Fault::bad_file, file.fd >= 0, printable(path), ": ", std::strerror(errno));
  struct stat info {};
  CHECK_AS(Fault::bad_file, ::fstat(file.fd, &info) == 0 && S_ISREG(info.st_mode), printable(path),
           ": not a regular file");
  CHECK_AS(Fault::bad_file, info.st_size > 0, printable(path), ": empty file");
  CHECK_AS(Fault::bad_file, info.st_size <= max_bytes, printable(path), ": ", info.st_size,
           " bytes, more than the limit of ", max_bytes);
  out.resize(static_cast<size_t>(info.st_size));
  size_t at = 0;
  while (at < out.size()) {
    const ssize_t n = ::read(file.fd, out.data() + at, out.size() - at);
    if (n < 0 && errno == EINTR) continue;
    CHECK_AS(Fault::bad_file, n >= 0, printable(path), ": ", std::strerror(errno));
    CHECK_AS(Fault::bad_file, n > 0, printable(path), ": shrank while it was read, from ",
             out.size(), " to ", at, " bytes");
    at += static_cast<size_t>(n);
  }
}

EncodedImage::EncodedImage(Bytes file, const std::string& name, const ImageLimits& limits)
    : file_(file), name_(printable(name)), limits_(limits) {
  CHECK_AS(Fault::bad_file, !file.empty(), name_, ": empty file");
  if (file.size() >= 3 && file[0] == 0xFF && file[1] == 0xD8 && file[2] == 0xFF) {
    const JpegLayout layout = read_jpeg_layout(file, limits_, name_);
    type_ = ImageType::jpeg, width_ = layout.width, height_ = layout.height;
  } else if (file.size() >= 4 && std::memcmp(file.data(), "\x89PNG", 4) == 0) {
    const ImageHeader header = read_png_header(file, limits_, name_);
    type_ = ImageType::png, width_ = header.width, height_ = header.height;
  } else {
    fail(Fault::bad_file, name_, ": neither JPEG nor PNG by its first bytes");
  }
}

Box EncodedImage::decode(const CropRect& crop, int min_width, int min_height, Image& out) const {
  if (type_ == ImageType::jpeg) {
    return decode_jpeg(file_, layout_of(width_, height_), crop, min_width, min_height, out, name_);
  }
  decode_png(file_, limits_, out, name_);
  cut_out(crop, out);
  return {0, 0, double(crop.width), double(crop.height)};
}

Image read_image(const std::string& path) {
  std::vector<uint8_t> bytes;
  read_regular_file(path, bytes);
  Image image;
  EncodedImage(bytes, path).decode(image);
  return image;
}

}  // namespace mullion
