// Pictures as other tools write them: their pixels as Pillow reads them, stored and upright, what
// is noted of them, and timm's evaluation transform.
#include <cmath>
#include <cstring>

#include "data/augment.h"
#include "data/decode.h"
#include "tests/real/rows.h"

namespace mullion {
namespace {

using test::RealRow;

class RealImages : public testing::TestWithParam<RealRow> {};

std::vector<uint8_t> bytes_of(const std::filesystem::path& path) {
  std::vector<uint8_t> bytes;
  read_regular_file(path.string(), bytes);
  return bytes;
}

// The picture has the size and the pixels that the row gives under these names.
void expect_pixels(const Image& image, const RealRow& row, const std::string& prefix) {
  ASSERT_EQ(image.width, row.fields.at(prefix + "width"));
  ASSERT_EQ(image.height, row.fields.at(prefix + "height"));
  const std::string name = row.fields.at(prefix + "pixels");
  const std::vector<uint8_t> right = bytes_of(row.file.parent_path() / name);
  ASSERT_EQ(image.pixels.size(), right.size());
  int largest = 0;
  for (size_t i = 0; i < right.size(); ++i)
    largest = std::max(largest, std::abs(int{image.pixels[i]} - int{right[i]}));
  EXPECT_LE(largest, row.fields.value("tolerance", 0)) << prefix << "pixels";
}

// The row's notes and no others.
void expect_notes(const NoteSet& notes, const RealRow& row) {
  const std::vector<std::string> texts = notes.texts();
  const std::vector<std::string> wanted = row.fields.value("notes", std::vector<std::string>());
  for (const std::string& word : wanted)
    EXPECT_TRUE(
        std::any_of(texts.begin(), texts.end(),
                    [&](const std::string& text) { return text.find(word) != std::string::npos; }))
        << "no note of: " << word;
  // Damage may bring "bytes skipped" besides.
  const bool skipped =
      notes.has(ImageNote::skipped_bytes) && !wanted.empty() && wanted[0] == "restart marker";
  EXPECT_EQ(texts.size(), wanted.size() + skipped) << testing::PrintToString(texts);
}

void expect_evaluation(const EncodedImage& encoded, const RealRow& row) {
  EvalTransform transform;
  transform.height = row.fields.at("img_size")[0];
  transform.width = row.fields.at("img_size")[1];
  transform.crop_pct = row.fields.at("crop_pct");
  transform.interpolation = row.fields.at("interpolation") == "bicubic" ? Interpolation::bicubic
                                                                        : Interpolation::bilinear;
  std::vector<float> sample(static_cast<size_t>(transform.height) * transform.width * 3);
  TransformScratch scratch;
  apply(transform, encoded, scratch, sample.data());
  const auto right = bytes_of(row.file.parent_path() / row.fields.at("tensor").get<std::string>());
  ASSERT_EQ(right.size(), sample.size() * sizeof(float));
  // Pillow rounds the resized picture to 8 bits, these programs keep its fractions: half a level,
  // and a little more where the passes round apart.
  double sum = 0;
  for (size_t i = 0; i < sample.size(); ++i) {
    float value = 0;
    std::memcpy(&value, right.data() + i * sizeof value, sizeof value);
    const double levels = 255 * transform.normalization.std[i % 3] * (sample[i] - value);
    EXPECT_LE(std::abs(levels), 0.75) << "value " << i;
    sum += levels;
  }
  EXPECT_NEAR(sum / static_cast<double>(sample.size()), 0, 0.03);
}

TEST_P(RealImages, AreReadAsTheirMakersMeantThem) {
  const RealRow& row = GetParam();
  test::read_as_expected(row, [&] {
    const std::vector<uint8_t> bytes = bytes_of(row.file);
    const EncodedImage encoded(bytes, row.file.string());
    if (row.fields.contains("tensor")) {
      expect_evaluation(encoded, row);
      return;
    }
    Image image;
    encoded.decode(image);
    if (row.fields.contains("error")) return;
    expect_pixels(image, row, "");
    expect_notes(encoded.notes(), row);
    if (!row.fields.contains("orientation")) return;
    EXPECT_EQ(encoded.orientation(), row.fields.at("orientation"));
    if (!row.fields.contains("upright_pixels")) return;
    const EncodedImage turned(bytes, row.file.string(), {}, ExifUse::apply);
    turned.decode(image);
    expect_pixels(image, row, "upright_");
    EXPECT_FALSE(turned.notes().has(ImageNote::orientation_ignored));
  });
}

INSTANTIATE_REAL_ROWS(RealImages, "images");

}  // namespace
}  // namespace mullion
