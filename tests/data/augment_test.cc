// Transforms against Pillow where they are exact, by their statistics where they are random.
#include "data/augmentation.h"

#include <cmath>
#include <cstring>
#include <set>

#include "data/mix.h"
#include "data/png.h"
#include "golden_images.h"
#include "tensor/check.h"

namespace mullion {
namespace {

using test::file_bytes;
using test::golden_entries;
using test::golden_path;

// Levels in [0, 255] as they would be shown, from normalised floats.
std::vector<uint8_t> levels_of(const std::vector<float>& sample, const Normalization& n) {
  std::vector<uint8_t> out(sample.size());
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = uint8_t(std::lround(255 * (sample[i] * n.std[i % 3] + n.mean[i % 3])));
  }
  return out;
}

TEST(Augment, CropThenResizeMatchesPillow) {
  Resizer resizer;
  Image part, out;
  for (const auto& entry : golden_entries("crop")) {
    const std::vector<uint8_t> bytes = file_bytes(golden_path(entry["file"]));
    const auto& c = entry["crop"];
    const Box box = EncodedImage(bytes, "x").decode({c[0], c[1], c[2], c[3]}, 0, 0, part);
    resizer.run(part, ResizePlan::whole(box, entry["width"], entry["height"]), out);
    const auto want = file_bytes(golden_path(entry["pixels"]));
    EXPECT_LE(test::largest_difference(out.pixels, want), 1) << entry;
  }
}

TEST(Augment, EvaluationMatchesPillow) {
  TransformScratch scratch;
  for (const auto& entry : golden_entries("eval")) {
    const std::vector<uint8_t> bytes = file_bytes(golden_path(entry["file"]));
    EvalTransform transform;
    transform.height = entry["height"], transform.width = entry["width"];
    transform.crop_pct = entry["crop_pct"];
    std::vector<float> sample(size_t(transform.height) * transform.width * 3);
    apply(transform, EncodedImage(bytes, "x"), scratch, sample.data());
    const auto want = file_bytes(golden_path(entry["pixels"]));
    EXPECT_LE(test::largest_difference(levels_of(sample, {}), want), 1) << entry;
  }
}

TEST(Augment, CenterCropCoversAnyShape) {
  for (const auto& [w, h] : {std::pair{500, 375}, {375, 500}, {1, 9}, {97, 1}, {224, 224}}) {
    for (const auto& [out_h, out_w] : {std::pair{224, 224}, {160, 320}, {320, 160}, {7, 5}}) {
      const ResizePlan p = center_crop_plan(w, h, out_h, out_w, 0.875f, Interpolation::bicubic);
      EXPECT_GE(p.width, out_w);
      EXPECT_GE(p.height, out_h);
      EXPECT_TRUE(p.width == int(out_w / 0.875) || p.height == int(out_h / 0.875));
      EXPECT_LE(p.x + p.window_width, p.width);
      EXPECT_LE(p.y + p.window_height, p.height);
    }
  }
  EXPECT_EQ(center_crop_plan(500, 375, 224, 224, 0.875f, Interpolation::bicubic).width, 341);
}

TEST(Augment, RandomResizedCropStaysWithinItsRanges) {
  Philox random{3, 4, 0};
  double area = 0;
  const int n = 4000;
  for (int i = 0; i < n; ++i) {
    const CropRect c = random_resized_crop(500, 400, {}, random);
    ASSERT_TRUE(c.x >= 0 && c.y >= 0 && c.width > 0 && c.height > 0);
    ASSERT_TRUE(c.x + c.width <= 500 && c.y + c.height <= 400);
    const double ratio = double(c.width) / c.height, share = c.width * c.height / 200000.0;
    ASSERT_TRUE(ratio > 0.74 && ratio < 1.35) << ratio;
    ASSERT_TRUE(share > 0.079 && share <= 1) << share;
    area += share;
  }
  EXPECT_NEAR(area / n, 0.4523, 0.012);  // 40,000 draws in Python; large areas seldom fit
  for (const auto& [w, h] : {std::pair{1, 1}, {1, 300}, {300, 1}, {2, 3}}) {
    const CropRect c = random_resized_crop(w, h, {}, random);
    EXPECT_TRUE(c.width >= 1 && c.height >= 1 && c.x + c.width <= w && c.y + c.height <= h);
  }
}

std::vector<float> train_sample(const AugmentSettings& settings, int64_t index, const char* file) {
  static TransformScratch scratch;
  const std::vector<uint8_t> bytes = file_bytes(golden_path(file));
  const TrainTransform t(settings);
  std::vector<float> out(size_t(t.height()) * t.width() * 3);
  t.apply(EncodedImage(bytes, file), {9, 1, index}, scratch, out.data());
  return out;
}

TEST(Augment, TrainingSampleIsAFunctionOfItsKey) {
  AugmentSettings t;
  t.height = t.width = 32;
  t.set("mode", std::string("crop"));
  t.set("color_jitter", 0.4);
  t.set("reprob", 0.5);
  const auto a = train_sample(t, 5, "rgb420.jpg");
  train_sample(t, 6, "rgb444.jpg");
  EXPECT_EQ(a, train_sample(t, 5, "rgb420.jpg"));
  EXPECT_NE(a, train_sample(t, 6, "rgb420.jpg"));
}

// Steps stand in the order of their places; what has no effect is told.
TEST(Augment, StepsAreListedAndUnusedOptionsTold) {
  AugmentSettings s;
  s.set("color_jitter", 0.4);
  s.set("reprob", 0.25);
  s.set("pad", int64_t{3});
  const TrainTransform t(s);
  EXPECT_EQ(t.describe(), (std::vector<std::string>{"random resized crop (area 0.08 to 1)",
                                                    "flip (probability 0.5)", "colour jitter (0.4)",
                                                    "random erasing (probability 0.25)"}));
  ASSERT_EQ(t.unused().size(), 1u);
  EXPECT_EQ(t.unused()[0].key, "pad");
  EXPECT_EQ(t.unused()[0].why, "without padding and crop (--aug pad-crop)");
  s.set("no_aug", true);
  const TrainTransform plain(s);
  EXPECT_EQ(plain.describe(), (std::vector<std::string>{"centre crop"}));
  EXPECT_EQ(plain.unused().size(), 3u);  // --pad, --color-jitter, --reprob
  EXPECT_THROW(s.set("color_jitter", int64_t{1}), Error);
  EXPECT_THROW(s.set("sparkle", 1.0), Error);
}

TEST(Augment, KindsHaveTheirOwnNamesKeysFlagsAndStreams) {
  std::set<std::string> names, keys, flags;
  std::set<uint64_t> streams;
  for (const AugmentationKind& kind : augmentation_kinds()) {
    EXPECT_TRUE(names.insert(kind.name).second) << kind.name;
    EXPECT_TRUE(kind.make == nullptr || streams.insert(kind.stream).second) << kind.name;
    for (const AugmentOption& option : kind.options) {
      EXPECT_TRUE(keys.insert(option.key).second) << option.key;
      EXPECT_TRUE(flags.insert(option.flags).second) << option.flags;
      EXPECT_FALSE(option.help.empty());
    }
  }
  EXPECT_EQ(augmentation_kinds().front().name, "frame");
}

// --no-aug: the centre crop of evaluation, without a margin.
TEST(Augment, WithoutAugmentationASampleIsThatOfEvaluation) {
  AugmentSettings settings;
  settings.height = 24, settings.width = 40;
  settings.set("no_aug", true);
  EvalTransform eval;
  eval.height = 24, eval.width = 40, eval.crop_pct = 1;
  TransformScratch scratch;
  std::vector<float> want(24 * 40 * 3);
  const std::vector<uint8_t> bytes = file_bytes(golden_path("rgb420.jpg"));
  apply(eval, EncodedImage(bytes, "x"), scratch, want.data());
  EXPECT_EQ(train_sample(settings, 7, "rgb420.jpg"), want);
}

TEST(Augment, AllFilesOfAllKindsGiveFiniteSamples) {
  for (const char* kind : {"jpeg", "png"}) {
    for (const auto& entry : golden_entries(kind)) {
      for (const char* mode : {"crop", "pad-crop", "rkrr"}) {
        AugmentSettings t;
        t.height = 24, t.width = 40;
        const bool keeps_ratio = std::string(mode) == "rkrr";
        t.set("mode", std::string(keeps_ratio ? "crop" : mode));
        t.set("train_crop_mode", std::string(keeps_ratio ? "rkrr" : "rrc"));
        t.set("pad", int64_t{2});
        t.set("reprob", 1.0);
        for (float v : train_sample(t, 3, std::string(entry["file"]).c_str())) {
          ASSERT_TRUE(std::isfinite(v) && std::abs(v) < 8) << entry;
        }
      }
    }
  }
}

TEST(Augment, PadAndCropMovesThePicture) {
  Image image;
  image.resize(8, 8);
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = uint8_t(i + 1);
  const std::vector<uint8_t> bytes = encode_png(image);
  AugmentSettings settings;
  settings.height = settings.width = 8;
  settings.normalization = {{0, 0, 0}, {1, 1, 1}};
  settings.set("mode", std::string("pad-crop"));
  settings.set("pad", int64_t{2});
  const TrainTransform t(settings);
  TransformScratch scratch;
  std::vector<float> out(8 * 8 * 3);
  std::vector<int> seen(25);
  int mirrored = 0;
  for (int64_t index = 0; index < 400; ++index) {
    t.apply(EncodedImage(bytes, "x"), {1, 0, index}, scratch, out.data());
    const auto level = [&](int y, int x) { return int(std::lround(255 * out[(y * 8 + x) * 3])); };
    // The centre pixel is always inside; its level says where the window lies and if it is
    // mirrored.
    const int place = (level(4, 4) - 1) / 3, right = (level(4, 5) - 1) / 3;
    const bool flip = right == place - 1;
    const int dy = place / 8 - 4, dx = place % 8 - (flip ? 3 : 4);
    ASSERT_TRUE(std::abs(dy) <= 2 && std::abs(dx) <= 2);
    ++seen[size_t((dy + 2) * 5 + dx + 2)];
    mirrored += flip;
    for (int y = 0; y < 8; ++y) {
      for (int x = 0; x < 8; ++x) {
        const int sy = y + dy, sx = (flip ? 7 - x : x) + dx;
        const bool inside = sy >= 0 && sy < 8 && sx >= 0 && sx < 8;
        ASSERT_EQ(level(y, x), inside ? image.row(sy)[3 * sx] : 0);
      }
    }
  }
  for (int count : seen) EXPECT_GT(count, 2);
  EXPECT_NEAR(mirrored, 200, 50);
}

TEST(Augment, ErasingReplacesARectangleByNoise) {
  int erased = 0;
  for (int64_t i = 0; i < 400; ++i) {
    std::vector<float> sample(40 * 30 * 3, 100.0f);
    Philox random = SampleKey{1, 1, i}.random(Purpose::erase);
    random_erasing(sample.data(), 40, 30, 0.25f, random);
    int count = 0;
    for (float v : sample) count += v < 50;
    if (count == 0) continue;
    ++erased;
    EXPECT_EQ(count % 3, 0);
    EXPECT_GE(count / 3, 40 * 30 * 0.015);
    EXPECT_LE(count / 3, 40 * 30 * 0.37);
  }
  EXPECT_NEAR(erased, 100, 35);
}

TEST(Augment, JitterKeepsLevelsInRangeAndAveragesOut) {
  double sum = 0;
  for (int64_t i = 0; i < 300; ++i) {
    std::vector<float> levels;
    for (int k = 0; k < 60; ++k) levels.push_back(float(k * 4));
    Philox random = SampleKey{1, 1, i}.random(Purpose::jitter);
    color_jitter(levels.data(), 20, 0.4f, random);
    for (float v : levels) {
      ASSERT_TRUE(v >= 0 && v <= 255);
      sum += v / 60;
    }
  }
  EXPECT_NEAR(sum / 300, 118, 6);
}

TEST(Mix, BetaHasItsMoments) {
  for (float alpha : {0.2f, 0.8f, 1.0f, 3.0f}) {
    Philox random{7, uint64_t(alpha * 10), 0};
    double mean = 0, square = 0;
    const int n = 20000;
    for (int i = 0; i < n; ++i) {
      const double x = beta_variate(alpha, alpha, random);
      ASSERT_TRUE(x >= 0 && x <= 1);
      mean += x / n, square += x * x / n;
    }
    EXPECT_NEAR(mean, 0.5, 0.012) << alpha;
    EXPECT_NEAR(square - mean * mean, 1 / (4 * (2 * alpha + 1)), 0.006) << alpha;
  }
}

struct MixCase {
  std::vector<float> images, targets;
  std::vector<int64_t> labels = {0, 1, 2, 0, 2};
  float lambda;
};

MixCase mixed(const MixOptions& options, uint64_t seed) {
  MixCase m;
  for (int i = 0; i < 5; ++i) m.images.insert(m.images.end(), 8 * 6 * 3, float(i));
  m.targets.resize(15);
  Philox random{seed, 0, 0};
  m.lambda =
      mix_batch(options, random, m.images.data(), 5, 8, 6, 3, m.labels.data(), 3, m.targets.data());
  return m;
}

TEST(Mix, TargetsSayWhatThePixelsAre) {
  for (const auto& [mixup, cutmix] : {std::pair{0.8f, 0.0f}, {0.0f, 1.0f}, {0.8f, 1.0f}}) {
    MixOptions options;
    options.mixup = mixup, options.cutmix = cutmix, options.smoothing = 0.1f;
    for (uint64_t seed = 0; seed < 50; ++seed) {
      const MixCase m = mixed(options, seed);
      for (int i = 0; i < 5; ++i) {
        // Picture i holds the number i everywhere, so its mean is λi + (1 − λ)(4 − i).
        double mean = 0;
        for (int k = 0; k < 144; ++k) mean += m.images[size_t(i * 144 + k)] / 144;
        ASSERT_NEAR(mean, m.lambda * i + (1 - m.lambda) * (4 - i), 1e-4);
        float sum = 0;
        for (int c = 0; c < 3; ++c) {
          const float want = m.lambda * float(m.labels[size_t(i)] == c) +
                             (1 - m.lambda) * float(m.labels[size_t(4 - i)] == c);
          ASSERT_NEAR(m.targets[size_t(i * 3 + c)], 0.9f * want + 0.1f / 3, 1e-5);
          sum += m.targets[size_t(i * 3 + c)];
        }
        ASSERT_NEAR(sum, 1, 1e-5);
      }
    }
  }
}

TEST(Mix, OffMeansSmoothedLabelsOnly) {
  MixOptions options;
  options.smoothing = 0.3f;
  const MixCase m = mixed(options, 1);
  EXPECT_EQ(m.lambda, 1);
  EXPECT_FLOAT_EQ(m.targets[0], 0.8f);
  EXPECT_FLOAT_EQ(m.targets[1], 0.1f);
}

}  // namespace
}  // namespace mullion
