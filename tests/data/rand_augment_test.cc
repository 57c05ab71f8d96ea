// Every operation of automatic augmentation against timm on Pillow, and what RandAugment draws.
#include "data/rand_augment.h"

#include <cmath>
#include <map>
#include <set>

#include "data/augmentation.h"
#include "data/decode.h"
#include "golden_images.h"
#include "tensor/check.h"
#include "tests/source_dir.h"

namespace mullion {
namespace {

std::string golden(const std::string& file) {
  return std::string(test::source_dir) + "/tests/golden/augment/" + file;
}

void run_case(const nlohmann::json& c, Image& image) {
  const std::string op = c["op"];
  if (op == "Grey") return adjust_color(image, 0);
  if (op == "Blur") return gaussian_blur(image, c["radius"]);
  AugmentContext context;
  context.interpolation =
      c["interpolation"] == "bicubic" ? Interpolation::bicubic : Interpolation::bilinear;
  augment_operation(op).apply(image, c["magnitude"], c["sign"], context);
}

// Equal; one level apart only where pixels are interpolated.
TEST(RandAugment, OperationsAreThoseOfTimmOnPillow) {
  const std::set<std::string> moves = {"Rotate", "ShearX", "ShearY", "TranslateXRel",
                                       "TranslateYRel"};
  std::ifstream in(golden("index.json"));
  const auto index = nlohmann::json::parse(in);
  std::map<std::string, int> apart;  // values that differ, by operation
  for (const std::string picture : index["pictures"]) {
    const Image from = read_image(golden(picture + ".png"));
    const auto want = test::file_bytes(golden(picture + ".rgb"));
    size_t at = 0;
    for (const auto& c : index["cases"]) {
      Image image = from;
      run_case(c, image);
      int largest = 0;
      for (const uint8_t level : image.pixels) {
        const int difference = std::abs(int{level} - int{want[at++]});
        largest = std::max(largest, difference);
        apart[c["op"]] += difference > 0;
      }
      EXPECT_LE(largest, int(moves.count(c["op"]))) << picture << " " << c;
    }
    EXPECT_EQ(at, want.size());
  }
  // Few of them: it is the rounding that differs, not the place.
  for (const auto& [op, count] : apart) EXPECT_LT(count, 200) << op;
}

TEST(RandAugment, PoliciesAreReadAsTimmWritesThem) {
  const RandAugmentPolicy p = parse_rand_augment("rand-m9-mstd0.5-inc1");
  EXPECT_EQ(p.magnitude, 9);
  EXPECT_EQ(p.noise, 0.5);
  EXPECT_EQ(p.count, 2);
  EXPECT_EQ(p.probability, 0.5);
  EXPECT_EQ(p.most, 10);
  EXPECT_EQ(p.operations.size(), 15u);
  EXPECT_STREQ(p.operations[4]->name, "PosterizeIncreasing");
  const RandAugmentPolicy other = parse_rand_augment("rand-n3-m15-mmax20-mstd101-p0.7");
  EXPECT_EQ(other.count, 3);
  EXPECT_EQ(other.most, 20);
  EXPECT_TRUE(other.uniform);
  EXPECT_STREQ(other.operations[4]->name, "Posterize");
  for (const char* bad : {"random", "rand-m", "rand-m9.5", "rand-x3", "rand-inc0", "rand-p2", "3b",
                          "rand-n0", "rand--m9", "rand-tweights"})
    EXPECT_THROW(parse_rand_augment(bad), Error) << bad;
}

// Each operation about as often as the others, half of them done, magnitudes around 9 and cut
// at 10.
TEST(RandAugment, DrawsWhatThePolicySays) {
  static std::map<double, int> magnitudes;
  static int negative, calls;
  const AugmentOperation count{"count", [](Image&, double magnitude, double sign, const auto&) {
                                 ++magnitudes[magnitude];
                                 negative += sign < 0;
                                 ++calls;
                               }};
  RandAugmentPolicy p = parse_rand_augment("rand-m9-mstd0.5-inc1");
  p.operations = {&count};
  Image image;
  image.resize(1, 1);
  for (int64_t i = 0; i < 4000; ++i) {
    Philox random = SampleKey{1, 2, i}.random(stream_named("auto augment"));
    apply(p, {}, image, random);
  }
  EXPECT_NEAR(calls, 4000, 200);
  EXPECT_NEAR(negative, calls / 2, 150);
  double sum = 0;
  for (const auto& [magnitude, n] : magnitudes) {
    EXPECT_TRUE(magnitude > 6.5 && magnitude <= 10) << magnitude;
    sum += magnitude * n;
  }
  EXPECT_NEAR(sum / calls, 8.99, 0.04);
  EXPECT_NEAR(magnitudes[10.0], 0.0228 * calls, 40);  // two deviations above 9 and more
}

TEST(RandAugment, ASampleIsAFunctionOfItsKeyAndOnlyColoursFollowTheCrop) {
  AugmentSettings settings;
  settings.height = settings.width = 40;
  settings.set("mode", std::string("crop"));
  settings.set("color_jitter", 0.4);
  const std::vector<uint8_t> bytes = test::file_bytes(test::golden_path("rgb420.jpg"));
  TransformScratch scratch;
  const auto sample = [&](const std::string& automatic, int64_t index) {
    settings.set("auto", automatic);
    std::vector<float> out(40 * 40 * 3);
    TrainTransform(settings).apply(EncodedImage(bytes, "x"), {9, 1, index}, scratch, out.data());
    return out;
  };
  for (const char* automatic : {"rand-m9-mstd0.5-inc1", "3a", "rand-p0"}) {
    const auto first = sample(automatic, 5);
    EXPECT_NE(first, sample(automatic, 6));
    EXPECT_EQ(first, sample(automatic, 5));
  }
  // Without an operation the crop and the flip are those of a run without RandAugment.
  const auto untouched = sample("rand-p0", 5);
  settings.set("color_jitter", 0.0);
  const auto plain = sample("none", 5);
  float largest = 0;
  for (size_t i = 0; i < plain.size(); ++i)
    largest = std::max(largest, std::abs(plain[i] - untouched[i]));
  EXPECT_LT(largest, 0.51 / 255 / 0.224);  // rounded to 8 bits on the way
}

}  // namespace
}  // namespace mullion
