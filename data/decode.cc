// The whole file, its kind and header, then the pixels of a crop by the decoder of that kind.
#include "data/decode.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "data/jpeg.h"
#include "data/png.h"
#include "data/utf8.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/words.h"

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

// What other files look like that stand where pictures are expected.
std::string kind_of(Bytes file) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  const auto at = [&](size_t place, std::string_view what) {
    return text.size() >= place && text.substr(place).starts_with(what);
  };
  const auto image = [](const char* name) {
    return concat(name, " is an image kind that is not read: convert it to JPEG or PNG");
  };
  if (at(0, "RIFF") && at(8, "WEBP")) return image("WebP");
  if (at(4, "ftypavif") || at(4, "ftypavis")) return image("AVIF");
  for (const char* brand : {"ftypheic", "ftypheix", "ftyphevc", "ftypmif1", "ftypmsf1"})
    if (at(4, brand)) return image("HEIC");
  if (at(0, "GIF87a") || at(0, "GIF89a")) return image("GIF");
  if (at(0, "BM")) return image("BMP");
  if (at(0, {"II*\0", 4}) || at(0, {"MM\0*", 4})) return image("TIFF");
  if (at(0, {"\0\0\0\x0cjP  ", 8})) return image("JPEG 2000");
  if (at(0, "\xff\x0a") || at(0, {"\0\0\0\x0cJXL ", 8})) return image("JPEG XL");
  if (at(0, "8BPS")) return image("Photoshop");
  const size_t start = text.find_first_not_of(" \t\r\n");
  if (start != std::string_view::npos && text[start] == '<')
    return "neither JPEG nor PNG by its first bytes, but HTML or XML text";
  return "neither JPEG nor PNG by its first bytes";
}

}  // namespace

std::string printable(const std::string& name) {
  std::string out;
  for (size_t i = 0; i < name.size();) {
    const size_t n = utf8_character(std::string_view(name).substr(i));
    const uint8_t byte = static_cast<uint8_t>(name[i]);
    if (n == 0 || byte < 0x20 || byte == 0x7F) {
      out += "\\x" + hex_of({&name[i], 1});
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

EncodedImage::EncodedImage(Bytes file, const std::string& name, const ImageLimits& limits,
                           ExifUse exif)
    : file_(file), name_(printable(name)), limits_(limits) {
  CHECK_AS(Fault::bad_file, !file.empty(), name_, ": empty file");
  const auto take = [this](ImageType type, const auto& layout) {
    type_ = type, stored_width_ = layout.width, stored_height_ = layout.height;
    orientation_ = layout.orientation, notes_ = layout.notes;
  };
  if (file.size() >= 3 && file[0] == 0xFF && file[1] == 0xD8 && file[2] == 0xFF) {
    take(ImageType::jpeg, read_jpeg_layout(file, limits_, name_));
  } else if (file.size() >= 4 && std::memcmp(file.data(), "\x89PNG", 4) == 0) {
    take(ImageType::png, read_png_layout(file, limits_, name_));
  } else {
    refuse_lfs_pointer({reinterpret_cast<const char*>(file.data()), file.size()}, name_);
    fail(Fault::bad_file, name_, ": ", kind_of(file));
  }
  if (orientation_ <= 1) return;
  if (exif == ExifUse::apply) {
    turn_ = Turn(orientation_);
  } else {
    notes_.add(ImageNote::orientation_ignored);
  }
}

Box EncodedImage::decode(const CropRect& crop, int min_width, int min_height, Image& out) const {
  const CropRect stored = turn_.stored(crop, stored_width_, stored_height_);
  if (turn_.exchange) std::swap(min_width, min_height);
  Box box{0, 0, double(stored.width), double(stored.height)};
  if (type_ == ImageType::jpeg) {
    box = decode_jpeg(file_, layout_of(stored_width_, stored_height_), stored, min_width,
                      min_height, out, notes_, name_);
  } else {
    decode_png(file_, limits_, out, name_);
    cut_out(stored, out);
  }
  turn_.apply(out, box);
  return box;
}

Image read_image(const std::string& path) {
  std::vector<uint8_t> bytes;
  read_regular_file(path, bytes);
  Image image;
  EncodedImage(bytes, path).decode(image);
  return image;
}

}  // namespace mullion
