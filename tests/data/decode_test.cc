// Decoding against Pillow's pixels and hand-made PNG files, and what must be refused.
#include "data/decode.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>

#include "data/jpeg.h"
#include "data/png.h"
#include "golden_images.h"
#include "tensor/check.h"
#include "tensor/random.h"
#include "tests/shared_data.h"

#if __has_include(<jpeglib.h>)
#include <jpeglib.h>
#include <cstdio>
#define HAVE_JPEGLIB
#endif

namespace mullion {
namespace {

using test::file_bytes;
using test::golden_entries;
using test::golden_path;
using test::largest_difference;

// Runs `body` and expects a bad_file error whose text contains `words`.
template <typename Body>
void expect_refused(Body body, const std::string& words) {
  try {
    body();
    ADD_FAILURE() << "accepted; expected: " << words;
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::bad_file) << error.what();
    EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
  }
}

void decode_all(const std::vector<uint8_t>& bytes, const ImageLimits& limits = {}) {
  Image image;
  EncodedImage(bytes, "test.bin", limits).decode(image);
}

TEST(Decode, MatchesGoldenPixels) {
  for (const char* kind : {"jpeg", "png"}) {
    for (const auto& entry : golden_entries(kind)) {
      const Image image = read_image(golden_path(entry["file"]));
      EXPECT_EQ(image.width, entry["width"]) << entry;
      EXPECT_EQ(image.height, entry["height"]) << entry;
      const int difference =
          largest_difference(image.pixels, file_bytes(golden_path(entry["pixels"])));
      EXPECT_LE(difference, entry.value("tolerance", 0)) << entry;
    }
  }
}

// Some rectangles of a picture equal the same rectangles of the whole.
void expect_crops_equal(const std::string& path, int crops) {
  const std::vector<uint8_t> bytes = file_bytes(path);
  const EncodedImage file(bytes, path);
  Image whole, part;
  file.decode(whole);
  Philox random{1, 2, 0};
  for (int i = 0; i < crops; ++i) {
    CropRect crop;
    crop.x = static_cast<int>(random.below(whole.width));
    crop.y = static_cast<int>(random.below(whole.height));
    crop.width = 1 + static_cast<int>(random.below(whole.width - crop.x));
    crop.height = 1 + static_cast<int>(random.below(whole.height - crop.y));
    file.decode(crop, 0, 0, part);
    ASSERT_EQ(part.width, crop.width);
    ASSERT_EQ(part.height, crop.height);
    for (int y = 0; y < crop.height; ++y) {
      const uint8_t* want = whole.row(crop.y + y) + 3 * crop.x;
      ASSERT_TRUE(std::equal(want, want + 3 * crop.width, part.row(y)))
          << path << " crop " << crop.x << "," << crop.y << " " << crop.width << "x" << crop.height
          << " row " << y;
    }
  }
}

TEST(Decode, CropEqualsPartOfWhole) {
  for (const char* kind : {"jpeg", "png"}) {
    for (const auto& entry : golden_entries(kind))
      expect_crops_equal(golden_path(entry["file"]), 40);
  }
}

TEST(Decode, CropEqualsPartOfWholeOnPhotographs) {
  REQUIRE_SHARED("data/images/imagenet_sample100");
  const auto root = test::shared_path("data/images/imagenet_sample100");
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    if (entry.is_regular_file()) expect_crops_equal(entry.path(), 2);
  }
}

TEST(Decode, ScaledCropCoversTheSamePlace) {
  const std::string path = golden_path("rgb420.jpg");
  const std::vector<uint8_t> bytes = file_bytes(path);
  const EncodedImage file(bytes, path);
  Image out;
  const CropRect crop{9, 7, 41, 33};
  const Box box = file.decode(crop, 20, 16, out);
  EXPECT_DOUBLE_EQ(box.x0, 0.5);
  EXPECT_DOUBLE_EQ(box.y0, 0.5);
  EXPECT_DOUBLE_EQ(box.x1, 21);
  EXPECT_DOUBLE_EQ(box.y1, 17);
  EXPECT_EQ(out.width, 21);
  EXPECT_EQ(out.height, 17);
  Image whole;
  file.decode(whole);
  // The picture is full of hard edges, so the means of 2×2 pixels are near only in the right place.
  const auto difference = [&](int dx, int dy) {
    double sum = 0;
    for (int y = 0; y < 16; ++y) {
      for (int i = 0; i < 60; ++i) {  // columns 8, 9 and rows 6, 7 are the first pair
        const uint8_t* top = whole.row(6 + 2 * y + dy) + 24 + i / 3 * 6 + i % 3 + 3 * dx;
        const uint8_t* low = top + 3 * whole.width;
        sum += std::abs((top[0] + top[3] + low[0] + low[3]) / 4.0 - out.row(y)[i]);
      }
    }
    return sum;
  };
  for (int d : {-2, 2}) {
    EXPECT_LT(difference(0, 0), 0.5 * difference(d, 0));
    EXPECT_LT(difference(0, 0), 0.5 * difference(0, d));
  }
  const Box full = file.decode(crop, 21, 16, out);  // half would leave 20 columns
  EXPECT_DOUBLE_EQ(full.x1, 41);
}

TEST(Decode, CutFilesAreRefused) {
  for (const char* kind : {"jpeg", "png"}) {
    for (const auto& entry : golden_entries(kind)) {
      const std::vector<uint8_t> bytes = file_bytes(golden_path(entry["file"]));
      for (size_t n = 0; n < bytes.size(); n += n < 64 ? 1 : 64) {
        const std::vector<uint8_t> cut(bytes.begin(), bytes.begin() + ptrdiff_t(n));
        expect_refused([&] { decode_all(cut); }, "test.bin");
      }
    }
  }
}

TEST(Decode, CutPhotographsAreRefused) {
  REQUIRE_SHARED("data/images/imagenet_sample100");
  int files = 0;
  const auto root = test::shared_path("data/images/imagenet_sample100");
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    if (!entry.is_regular_file() || ++files > 25) continue;
    std::vector<uint8_t> bytes = file_bytes(entry.path());
    for (size_t n = bytes.size() / 64 * 64; n > 0; n -= 64) {
      if (n == bytes.size()) continue;
      bytes.resize(n);
      expect_refused([&] { EncodedImage(bytes, "test.bin"); }, "test.bin");
      if (n < 128) break;
    }
  }
}

TEST(Decode, DamageInsideAScanIsAnError) {
  std::vector<uint8_t> bytes = file_bytes(golden_path("rgb444.jpg"));
  std::vector<uint8_t> holed = bytes;  // a hole in the entropy-coded data, the end marker in place
  holed.erase(holed.end() - 600, holed.end() - 2);
  expect_refused([&] { decode_all(holed); }, "JPEG");
}

TEST(Decode, TypeByContentNotByName) {
  const auto text = [](const std::string& s) { return std::vector<uint8_t>(s.begin(), s.end()); };
  expect_refused([&] { decode_all(text("<!DOCTYPE html><html>")); }, "neither JPEG nor PNG");
  expect_refused([&] { decode_all(text("GIF89a...............")); },
                 "GIF is an image kind that is");
  expect_refused(
      [&] { decode_all(text("version https://git-lfs.github.com/spec/v1\nsize 123\n")); },
      "a Git LFS pointer, not the file of 123 bytes");
  expect_refused([&] { decode_all({}); }, "empty");
  const auto folder = std::filesystem::temp_directory_path() / "mullion_decode_test";
  std::filesystem::create_directories(folder);
  const auto lying = folder / "really_a_png.jpg";
  std::filesystem::copy_file(golden_path("rgb8i0.png"), lying,
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_EQ(read_image(lying).width, 29);
  const auto fifo = folder / "fifo.jpg";
  ::mkfifo(fifo.c_str(), 0600);
  expect_refused([&] { read_image(fifo); }, "not a regular file");
  expect_refused([&] { read_image(folder / "absent.jpg"); }, "No such file");
  std::filesystem::remove_all(folder);
}

// A JPEG that claims width × height and holds next to nothing.
std::vector<uint8_t> jpeg_claiming(int width, int height, int marker = 0xC0, int bits = 8) {
  std::vector<uint8_t> b = {0xFF, 0xD8, 0xFF, uint8_t(marker), 0, 17, uint8_t(bits)};
  for (int v : {height, width}) b.push_back(uint8_t(v >> 8)), b.push_back(uint8_t(v & 255));
  for (int v : {3, 1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0}) b.push_back(uint8_t(v));
  for (int v : {0xFF, 0xDA, 0, 12, 3, 1, 0, 2, 0, 3, 0, 0, 63, 0}) b.push_back(uint8_t(v));
  b.resize(720, 0x55);
  b.push_back(0xFF), b.push_back(0xD9);
  return b;
}

TEST(Decode, BombsAreRefusedFromTheHeader) {
  rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  expect_refused([] { decode_all(jpeg_claiming(26000, 26000)); }, "over the limit");
  expect_refused([] { decode_all(jpeg_claiming(65535, 65535)); }, "over the limit");
  expect_refused([] { decode_all(jpeg_claiming(4000, 4000)); }, "1000 to 1");
  expect_refused([] { decode_all(jpeg_claiming(100, 0)); }, "100x0");
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 64 * 1024);
}

TEST(Decode, UnsupportedKindsAreNamed) {
  expect_refused([] { decode_all(jpeg_claiming(64, 64, 0xC3)); }, "lossless");
  expect_refused([] { decode_all(jpeg_claiming(64, 64, 0xC9)); }, "arithmetic");
  expect_refused([] { decode_all(jpeg_claiming(64, 64, 0xC5)); }, "hierarchical");
  expect_refused([] { decode_all(jpeg_claiming(64, 64, 0xC1, 12)); }, "12 bits");
}

TEST(Decode, ScansAreLimited) {
  std::vector<uint8_t> bytes = file_bytes(golden_path("progressive.jpg"));
  ImageLimits limits;
  limits.max_scans = read_jpeg_layout(bytes, limits, "x").scans;
  EXPECT_GT(limits.max_scans, 1);
  decode_all(bytes, limits);
  --limits.max_scans;
  expect_refused([&] { decode_all(bytes, limits); }, "scans");
}

// Byte offset and length of the body of the first chunk with this tag.
std::pair<size_t, size_t> find_chunk(const std::vector<uint8_t>& png, const std::string& tag) {
  for (size_t at = 8; at + 12 <= png.size();) {
    const size_t n = size_t{png[at]} << 24 | png[at + 1] << 16 | png[at + 2] << 8 | png[at + 3];
    if (std::equal(tag.begin(), tag.end(), png.begin() + ptrdiff_t(at + 4))) return {at + 8, n};
    at += n + 12;
  }
  ADD_FAILURE() << "no " << tag;
  return {0, 0};
}

TEST(Decode, PngDamage) {
  const std::vector<uint8_t> good = file_bytes(golden_path("rgb8i0.png"));
  for (const char* tag : {"IHDR", "tEXt", "IDAT", "IEND"}) {
    std::vector<uint8_t> bad = good;
    const auto [at, length] = find_chunk(bad, tag);
    bad[at + length] ^= 1;  // the first byte of the CRC
    expect_refused([&] { decode_all(bad); }, "CRC");
  }
  std::vector<uint8_t> bad = good;
  bad[8] = 0x7F;  // length of IHDR
  expect_refused([&] { decode_all(bad); }, "chunk of");
  bad = good;
  bad.resize(33);  // the header alone
  expect_refused([&] { decode_all(bad); }, "cut");
  std::vector<uint8_t> trailing = good;
  trailing.push_back(7);
  decode_all(trailing);  // bytes after IEND belong to nobody
}

TEST(Png, WritesWhatItReads) {
  for (const auto& [width, height] : {std::pair{1, 1}, {7, 3}, {64, 65}}) {
    Image image;
    image.resize(width, height);
    Philox random{5, 6, 0};
    for (uint8_t& level : image.pixels) level = uint8_t(random.next());
    Image back;
    const std::vector<uint8_t> bytes = encode_png(image);
    EncodedImage(bytes, "memory").decode(back);
    EXPECT_EQ(back.width, width);
    EXPECT_EQ(back.pixels, image.pixels);
  }
  Image image;
  image.resize(2, 2);
  EXPECT_THROW(write_png("/nowhere/at/all.png", image), Error);
}

TEST(Decode, NamesAreShownEscaped) {
  EXPECT_EQ(printable("a\nb\xFF\xC3\xA9"), "a\\x0ab\\xff\xC3\xA9");
}

#ifdef HAVE_JPEGLIB
// One colour as a JPEG in the given colour space, written with libjpeg itself.
std::vector<uint8_t> flat_jpeg(J_COLOR_SPACE given, J_COLOR_SPACE stored,
                               const std::vector<uint8_t>& colour, int h_factor, int v_factor) {
  jpeg_compress_struct info;
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* memory = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &memory, &size);
  info.image_width = 20, info.image_height = 18;
  info.input_components = static_cast<int>(colour.size());
  info.in_color_space = given;
  jpeg_set_defaults(&info);
  jpeg_set_colorspace(&info, stored);
  jpeg_set_quality(&info, 100, TRUE);
  info.comp_info[0].h_samp_factor = h_factor, info.comp_info[0].v_samp_factor = v_factor;
  jpeg_start_compress(&info, TRUE);
  std::vector<uint8_t> line;
  for (int x = 0; x < 20; ++x) line.insert(line.end(), colour.begin(), colour.end());
  for (int y = 0; y < 18; ++y) {
    JSAMPROW row = line.data();
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  std::vector<uint8_t> bytes(memory, memory + size);
  jpeg_destroy_compress(&info);
  std::free(memory);
  return bytes;
}

void expect_flat(const std::vector<uint8_t>& bytes, int r, int g, int b) {
  Image image;
  EncodedImage(bytes, "flat").decode(image);
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    ASSERT_NEAR(image.pixels[i], r, 2);
    ASSERT_NEAR(image.pixels[i + 1], g, 2);
    ASSERT_NEAR(image.pixels[i + 2], b, 2);
  }
}

TEST(Decode, FourColours) {
  // Adobe stores the complement of the ink: C 255 means no cyan. (255-C)(255-K)/255 then is C·K.
  const std::vector<uint8_t> colour = {200, 100, 50, 180};
  const int r = 200 * 180 / 255, g = 100 * 180 / 255, b = 50 * 180 / 255;
  expect_flat(flat_jpeg(JCS_CMYK, JCS_CMYK, colour, 1, 1), r, g, b);
  expect_flat(flat_jpeg(JCS_CMYK, JCS_YCCK, colour, 1, 1), r, g, b);
  expect_flat(flat_jpeg(JCS_CMYK, JCS_YCCK, colour, 2, 2), r, g, b);
}

TEST(Decode, OtherSamplingsAndSpaces) {
  expect_flat(flat_jpeg(JCS_RGB, JCS_YCbCr, {200, 100, 50}, 1, 2), 200, 100, 50);  // 4:4:0
  expect_flat(flat_jpeg(JCS_RGB, JCS_YCbCr, {200, 100, 50}, 4, 1), 200, 100, 50);  // 4:1:1
  expect_flat(flat_jpeg(JCS_RGB, JCS_RGB, {200, 100, 50}, 1, 1), 200, 100, 50);
}
#endif

}  // namespace
}  // namespace mullion
