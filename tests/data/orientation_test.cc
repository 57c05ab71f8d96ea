// Turning pictures upright: the eight orientations, crops and scales in upright coordinates, and
// blocks of EXIF that are damaged.
#include "data/orientation.h"

#include <filesystem>

#include "data/augmentation.h"
#include "data/dataset.h"
#include "data/png.h"
#include "golden_images.h"
#include "tests/source_dir.h"

namespace mullion {
namespace {

using test::file_bytes;

std::string real_path(const std::string& file) {
  return std::string(test::source_dir) + "/tests/real/images/" + file;
}

std::vector<uint8_t> bytes(const std::string& text) { return {text.begin(), text.end()}; }

// EXIF of one entry, little-endian.
std::string exif(const std::string& entry, int entries = 1) {
  return std::string("II*\0\x08\0\0\0", 8) + static_cast<char>(entries) + '\0' + entry;
}

TEST(Orientation, IsReadFromExif) {
  const std::string six("\x12\x01\x03\0\x01\0\0\0\x06\0\0\0", 12);
  EXPECT_EQ(exif_orientation(bytes(exif(six))), 6);
  EXPECT_EQ(exif_orientation(bytes(std::string("Exif\0\0", 6) + exif(six))), 6);
  EXPECT_EQ(exif_orientation(bytes(exif("", 0))), 0);
  const std::string other("\x0f\x01\x02\0\x01\0\0\0x\0\0\0", 12);
  EXPECT_EQ(exif_orientation(bytes(exif(other))), 0);
  EXPECT_EQ(exif_orientation(bytes(exif(other + six, 2))), 6);
  EXPECT_EQ(exif_orientation(
                bytes(std::string("MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x05\0\0", 22))),
            5);
  std::string wrong = six;
  for (const auto& [place, value] : {std::pair{8, 0}, {8, 9}, {2, 2}, {4, 2}}) {
    wrong = six;
    wrong[static_cast<size_t>(place)] = static_cast<char>(value);
    EXPECT_EQ(exif_orientation(bytes(exif(wrong))), -1) << place;
  }
  // Cut anywhere before the value: not known, and no byte beyond is read.
  const std::string whole = exif(six);
  for (size_t n = 0; n < whole.size(); ++n)
    EXPECT_EQ(exif_orientation(bytes(whole.substr(0, n))), -1) << n;
  EXPECT_EQ(exif_orientation(bytes(exif(other, 200))), -1);
  EXPECT_EQ(exif_orientation(bytes(std::string("II*\0\xff\xff\xff\xff\0\0", 10))), -1);
}

TEST(Orientation, IsReadFromXmp) {
  EXPECT_EQ(xmp_orientation(bytes("<x tiff:Orientation=\"6\"/>")), 6);
  EXPECT_EQ(xmp_orientation(bytes("<tiff:Orientation>8</tiff:Orientation>")), 8);
  EXPECT_EQ(xmp_orientation(bytes("<tiff:Orientation>9<")), -1);
  EXPECT_EQ(xmp_orientation(bytes("<tiff:Make>x<")), 0);
  EXPECT_EQ(xmp_orientation(bytes("tiff:Orientation=\"")), 0);
  EXPECT_EQ(xmp_orientation({}), 0);
}

TEST(Orientation, CropsAreThoseOfTheUprightPicture) {
  for (int o = 1; o <= 8; ++o) {
    const std::vector<uint8_t> file = file_bytes(real_path("exif" + std::to_string(o) + ".jpg"));
    const EncodedImage upright(file, "upright", {}, ExifUse::apply);
    Image whole, part;
    upright.decode(whole);
    ASSERT_EQ(whole.width, upright.width());
    Philox random{1, 2, 0};
    for (int i = 0; i < 20; ++i) {
      CropRect c;
      c.x = static_cast<int>(random.below(static_cast<uint32_t>(whole.width)));
      c.y = static_cast<int>(random.below(static_cast<uint32_t>(whole.height)));
      c.width = 1 + static_cast<int>(random.below(static_cast<uint32_t>(whole.width - c.x)));
      c.height = 1 + static_cast<int>(random.below(static_cast<uint32_t>(whole.height - c.y)));
      const Box box = upright.decode(c, 0, 0, part);
      EXPECT_EQ(box.x1 - box.x0, c.width);
      ASSERT_EQ(part.width, c.width);
      ASSERT_EQ(part.height, c.height);
      for (int y = 0; y < c.height; ++y) {
        const uint8_t* want = whole.row(c.y + y) + 3 * c.x;
        ASSERT_TRUE(std::equal(want, want + 3 * c.width, part.row(y))) << o << " row " << y;
      }
    }
  }
}

// At half the scale the crop lies where the same crop of the stored picture lies.
TEST(Orientation, ScaledCropsLieInTheSamePlace) {
  for (int o = 1; o <= 8; ++o) {
    const std::vector<uint8_t> file = file_bytes(real_path("exif" + std::to_string(o) + ".jpg"));
    const EncodedImage stored(file, "stored"), upright(file, "upright", {}, ExifUse::apply);
    const CropRect crop{3, 5, 22, 20};
    Image a, b;
    const Box of_stored =
        stored.decode(Turn(o).stored(crop, stored.width(), stored.height()), 8, 8, a);
    const Box of_upright = upright.decode(crop, 8, 8, b);
    EXPECT_EQ(a.pixels.size(), b.pixels.size());
    Box turned = of_stored;
    Turn(o).apply(a, turned);
    EXPECT_EQ(a.pixels, b.pixels);
    for (const auto side : {&Box::x0, &Box::y0, &Box::x1, &Box::y1})
      EXPECT_EQ(turned.*side, of_upright.*side);
    EXPECT_EQ(turned.x1 - turned.x0, crop.width / 2.0);
    EXPECT_EQ(turned.y1 - turned.y0, crop.height / 2.0);
  }
}

// A training sample of a turned PNG equals that of the same picture stored upright.
TEST(Orientation, TransformsSeeTheUprightPicture) {
  const std::vector<uint8_t> turned = file_bytes(real_path("exif.png"));
  Image image;
  EncodedImage(turned, "turned", {}, ExifUse::apply).decode(image);
  const std::vector<uint8_t> upright = encode_png(image);
  TransformScratch scratch;
  AugmentSettings settings;
  settings.height = 20, settings.width = 24;
  settings.set("mode", "crop");
  const TrainTransform train(settings);
  std::vector<float> a(20 * 24 * 3), b = a;
  for (int64_t index = 0; index < 8; ++index) {
    train.apply(EncodedImage(turned, "turned", {}, ExifUse::apply), {9, 1, index}, scratch,
                a.data());
    train.apply(EncodedImage(upright, "upright"), {9, 1, index}, scratch, b.data());
    EXPECT_EQ(a, b);
  }
  EvalTransform eval;
  eval.height = 20, eval.width = 24;
  apply(eval, EncodedImage(turned, "turned", {}, ExifUse::apply), scratch, a.data());
  apply(eval, EncodedImage(upright, "upright"), scratch, b.data());
  EXPECT_EQ(a, b);
  apply(eval, EncodedImage(turned, "turned"), scratch, b.data());
  EXPECT_NE(a, b);
}

}  // namespace
}  // namespace mullion
