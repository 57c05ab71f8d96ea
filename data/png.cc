// The chunk walk over a PNG file (ISO/IEC 15948, section 5) and the call of stb_image.
#include "data/png.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string_view>

#include "data/orientation.h"
#include "tensor/check.h"

namespace {
// stb_image's memory, of at most kBudget bytes a picture: a stream that inflates to more than its
// header says ends with an error instead of gigabytes. Each block carries its size before it.
thread_local size_t stb_budget = 0;
constexpr size_t kBlockHeader = 16;

void* budget_malloc(size_t size) {
  if (size > stb_budget) return nullptr;
  auto* block = static_cast<unsigned char*>(std::malloc(size + kBlockHeader));
  if (block == nullptr) return nullptr;
  std::memcpy(block, &size, sizeof size);
  stb_budget -= size;
  return block + kBlockHeader;
}

void budget_free(void* memory) {
  if (memory == nullptr) return;
  unsigned char* block = static_cast<unsigned char*>(memory) - kBlockHeader;
  size_t size = 0;
  std::memcpy(&size, block, sizeof size);
  stb_budget += size;
  std::free(block);
}

void* budget_realloc(void* memory, size_t old_size, size_t size) {
  void* fresh = budget_malloc(size);
  if (fresh == nullptr) return nullptr;
  if (memory != nullptr) std::memcpy(fresh, memory, old_size < size ? old_size : size);
  budget_free(memory);
  return fresh;
}
}  // namespace

#define STBI_MALLOC(size) budget_malloc(size)
#define STBI_FREE(memory) budget_free(memory)
#define STBI_REALLOC_SIZED(memory, old_size, size) budget_realloc(memory, old_size, size)
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#define STBI_NO_FAILURE_STRINGS
#include <stb/stb_image.h>
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#include <stb/stb_image_write.h>

namespace mullion {
namespace {

constexpr std::array<uint8_t, 8> kSignature = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};

constexpr uint32_t tag(const char (&name)[5]) {
  return uint32_t{uint8_t(name[0])} << 24 | uint32_t{uint8_t(name[1])} << 16 |
         uint32_t{uint8_t(name[2])} << 8 | uint32_t{uint8_t(name[3])};
}

uint32_t big_endian(const uint8_t* p) {
  return uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | uint32_t{p[3]};
}

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t n = 0; n < 256; ++n) {
    uint32_t c = n;
    for (int k = 0; k < 8; ++k) c = (c & 1) ? 0xEDB88320u ^ (c >> 1) : c >> 1;
    table[n] = c;
  }
  return table;
}

uint32_t crc32(Bytes bytes) {
  static constexpr std::array<uint32_t, 256> kTable = make_crc_table();
  uint32_t c = 0xFFFFFFFFu;
  for (uint8_t byte : bytes) c = kTable[(c ^ byte) & 255] ^ (c >> 8);
  return ~c;
}

struct PngHeader {
  int64_t width = 0, height = 0;
  int depth = 0, colour = 0, interlace = 0;

  int channels() const { return colour == 2 ? 3 : colour == 4 ? 2 : colour == 6 ? 4 : 1; }
};

class ChunkWalk {
 public:
  ChunkWalk(Bytes file, const ImageLimits& limits, const std::string& name)
      : file_(file), limits_(limits), name_(name) {}

  PngHeader header() {
    CHECK_AS(Fault::bad_file,
             file_.size() >= 8 && std::memcmp(file_.data(), kSignature.data(), 8) == 0, name_,
             ": not a PNG file");
    at_ = 8;
    next();
    CHECK_AS(Fault::bad_file, type_ == tag("IHDR") && body_.size() == 13, name_,
             ": PNG: no IHDR of 13 bytes at the start");
    header_ = {big_endian(body_.data()), big_endian(body_.data() + 4), body_[8], body_[9],
               body_[12]};
    check_header();
    return header_;
  }

  // What the chunks beside the pixels say. A file that is cut or damaged is not refused here.
  PngLayout layout() {
    header();
    PngLayout found;
    found.width = static_cast<int>(header_.width), found.height = static_cast<int>(header_.height);
    found.components = header_.colour == 0 || header_.colour == 4 ? 1 : 3;
    if (header_.depth == 16) found.notes.add(ImageNote::deep_samples);
    if (header_.colour == 4 || header_.colour == 6) found.notes.add(ImageNote::transparency);
    int exif = 0, xmp = 0;
    while (peek()) {
      if (type_ == tag("tRNS")) found.notes.add(ImageNote::transparency);
      if (type_ == tag("acTL")) found.notes.add(ImageNote::animation);
      if (type_ == tag("eXIf") && exif == 0) exif = exif_orientation(body_);
      if (type_ == tag("iTXt") && xmp == 0) xmp = xmp_of(body_);
    }
    if (exif < 0 || (exif == 0 && xmp < 0)) found.notes.add(ImageNote::bad_exif);
    found.orientation = exif > 0 ? exif : std::max(xmp, 0);
    return found;
  }

  // A new file of the chunks that the pixels need: IHDR, a palette of 256, one IDAT, IEND. tRNS is
  // left out because alpha is dropped anyway; a full palette gives every index a colour.
  std::vector<uint8_t> essential() {
    header();
    const Bytes start = body_;
    std::vector<uint8_t> palette, data;
    bool gap = false;
    for (next(); type_ != tag("IEND"); next()) {
      if (type_ == tag("IDAT")) {
        CHECK_AS(Fault::bad_file, !gap, name_, ": PNG: IDAT chunks are not together");
        data.insert(data.end(), body_.begin(), body_.end());
        continue;
      }
      gap = !data.empty();
      if (type_ == tag("PLTE")) {
        CHECK_AS(Fault::bad_file,
                 palette.empty() && data.empty() && body_.size() % 3 == 0 && !body_.empty() &&
                     body_.size() <= 768,
                 name_, ": PNG: PLTE of ", body_.size(), " bytes or out of place");
        palette.assign(body_.begin(), body_.end());
        palette.resize(768);
      }
      const bool critical = (type_ >> 24 & 32) == 0;
      CHECK_AS(Fault::bad_file, !critical || type_ == tag("PLTE"), name_,
               ": PNG: unknown critical chunk at byte ", at_);
    }
    CHECK_AS(Fault::bad_file, data.size() > 2, name_, ": PNG: no IDAT");
    CHECK_AS(Fault::bad_file, header_.colour != 3 || !palette.empty(), name_, ": PNG: no PLTE");
    std::vector<uint8_t> out(kSignature.begin(), kSignature.end());
    out.reserve(data.size() + 1024);
    append(out, tag("IHDR"), start);
    if (header_.colour == 3) append(out, tag("PLTE"), palette);
    append(out, tag("IDAT"), data);
    append(out, tag("IEND"), {});
    return out;
  }

 private:
  // Goes to the next chunk, unchecked; false at the end or where the file is cut.
  bool peek() {
    if (type_ == tag("IEND") || file_.size() - at_ < 12) return false;
    const size_t length = big_endian(file_.data() + at_);
    if (length > file_.size() - at_ - 12) return false;
    type_ = big_endian(file_.data() + at_ + 4);
    body_ = file_.subspan(at_ + 8, length);
    at_ += length + 12;
    return true;
  }

  // Orientation in XMP, which PNG keeps as text without compression.
  static int xmp_of(Bytes text) {
    constexpr std::string_view kKey{"XML:com.adobe.xmp\0\0", 19};
    const bool xmp =
        text.size() > kKey.size() && std::memcmp(text.data(), kKey.data(), kKey.size()) == 0;
    return xmp ? xmp_orientation(text.subspan(kKey.size())) : 0;
  }

  void next() {
    CHECK_AS(Fault::bad_file, file_.size() - at_ >= 12, name_, ": PNG: cut at byte ", file_.size());
    const size_t length = big_endian(file_.data() + at_);
    CHECK_AS(Fault::bad_file, length <= file_.size() - at_ - 12, name_, ": PNG: chunk of ", length,
             " bytes at byte ", at_, " in a file of ", file_.size());
    type_ = big_endian(file_.data() + at_ + 4);
    body_ = file_.subspan(at_ + 8, length);
    const uint32_t stored = big_endian(file_.data() + at_ + 8 + length);
    CHECK_AS(Fault::bad_file, crc32(file_.subspan(at_ + 4, length + 4)) == stored, name_,
             ": PNG: wrong CRC of the chunk at byte ", at_);
    at_ += length + 12;
  }

  void check_header() const {
    const int depth = header_.depth, colour = header_.colour;
    const bool small = depth == 1 || depth == 2 || depth == 4;
    const bool known = colour == 0   ? small || depth == 8 || depth == 16
                       : colour == 3 ? small || depth == 8
                       : colour == 2 || colour == 4 || colour == 6 ? depth == 8 || depth == 16
                                                                   : false;
    CHECK_AS(Fault::bad_file, known, name_, ": PNG: colour type ", colour, " with ", depth,
             " bits");
    CHECK_AS(Fault::bad_file, body_[10] == 0 && body_[11] == 0 && body_[12] <= 1, name_,
             ": PNG: unknown compression, filter or interlace method");
    check_image_size(header_.width, header_.height, file_.size(), limits_, name_);
  }

  static void append(std::vector<uint8_t>& out, uint32_t type, Bytes body) {
    const auto word = [&out](uint32_t v) {
      for (int shift = 24; shift >= 0; shift -= 8) out.push_back(uint8_t(v >> shift));
    };
    word(static_cast<uint32_t>(body.size()));
    word(type);
    out.insert(out.end(), body.begin(), body.end());
    word(0);  // stb reads no CRC; ours were checked
  }

  Bytes file_;
  const ImageLimits& limits_;
  const std::string& name_;
  size_t at_ = 0;
  uint32_t type_ = 0;
  Bytes body_;
  PngHeader header_;
};

}  // namespace

PngLayout read_png_layout(Bytes file, const ImageLimits& limits, const std::string& name) {
  return ChunkWalk(file, limits, name).layout();
}

void decode_png(Bytes file, const ImageLimits& limits, Image& out, const std::string& name) {
  CHECK_AS(Fault::bad_file, file.size() < (size_t{1} << 30), name, ": PNG of more than 1 GiB");
  ChunkWalk walk(file, limits, name);
  const PngHeader header = walk.header();
  const std::vector<uint8_t> clean = walk.essential();
  // Filtered lines (twice: stb doubles its buffer), the result in the file's format and in RGB.
  const size_t pixels = static_cast<size_t>(header.width * header.height);
  const size_t sample = header.depth == 16 ? 2 : 1;
  stb_budget = pixels * (4 * header.channels() * sample + 8) +
               16 * static_cast<size_t>(header.height) + 2 * clean.size() + 65536;
  int width = 0, height = 0, channels = 0;
  const std::unique_ptr<stbi_uc, void (*)(void*)> rgb(
      stbi_load_from_memory(clean.data(), static_cast<int>(clean.size()), &width, &height,
                            &channels, 3),
      stbi_image_free);
  CHECK_AS(Fault::bad_file, rgb != nullptr, name, ": PNG: its pixels do not decode");
  DCHECK(width == header.width && height == header.height);
  out.resize(width, height);
  std::memcpy(out.pixels.data(), rgb.get(), out.pixels.size());
}

std::vector<uint8_t> encode_png(const Image& image) {
  DCHECK(image.channels == 3 && image.width > 0 && image.height > 0);
  int length = 0;
  const std::unique_ptr<unsigned char, void (*)(void*)> file(
      stbi_write_png_to_mem(image.pixels.data(), image.width * 3, image.width, image.height, 3,
                            &length),
      std::free);
  CHECK_AS(Fault::memory, file != nullptr, "PNG of ", image.width, "x", image.height,
           ": out of memory");
  return std::vector<uint8_t>(file.get(), file.get() + length);
}

void write_png(const std::string& path, const Image& image) {
  const std::vector<uint8_t> bytes = encode_png(image);
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  file.close();
  CHECK_AS(Fault::disk, file.good(), path, ": cannot write: ", std::strerror(errno));
}

}  // namespace mullion
