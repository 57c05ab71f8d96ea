// Resizing against Pillow, within one level of 255.
#include "data/resize.h"

#include "data/decode.h"
#include "golden_images.h"
#include "tensor/check.h"

namespace mullion {
namespace {

using test::golden_entries;
using test::golden_path;

ResizePlan plan_of(const nlohmann::json& entry) {
  const auto& box = entry["box"];
  return ResizePlan::whole(
      {box[0], box[1], box[2], box[3]}, entry["width"], entry["height"],
      entry["filter"] == "bicubic" ? Interpolation::bicubic : Interpolation::bilinear);
}

TEST(Resize, MatchesPillow) {
  const Image source = read_image(golden_path("resize_source.png"));
  Resizer resizer;
  for (const auto& entry : golden_entries("resize")) {
    Image out;
    resizer.run(source, plan_of(entry), out);
    const auto want = test::file_bytes(golden_path(entry["pixels"]));
    EXPECT_LE(test::largest_difference(out.pixels, want), 1) << entry;
  }
}

TEST(Resize, FloatsAreTheLevelsMapped) {
  const Image source = read_image(golden_path("resize_source.png"));
  Resizer resizer;
  const PixelMap map{{0.5f, 2.0f, -1.0f}, {1.0f, 0.0f, 3.0f}};
  for (const auto& entry : golden_entries("resize")) {
    Image levels;
    resizer.run(source, plan_of(entry), levels);
    std::vector<float> out(levels.pixels.size() + 1, -77.0f);
    resizer.run(source, plan_of(entry), map, out.data());
    EXPECT_EQ(out.back(), -77.0f);  // nothing written beyond the end
    for (size_t i = 0; i < levels.pixels.size(); ++i) {
      const float level = (out[i] - map.bias[i % 3]) / map.scale[i % 3];
      ASSERT_NEAR(level, levels.pixels[i], 0.502) << entry << " at " << i;
    }
  }
}

TEST(Resize, WindowAndFlipArePartsOfTheWhole) {
  const Image source = read_image(golden_path("resize_source.png"));
  Resizer resizer;
  ResizePlan plan = ResizePlan::whole({0, 0, 53, 41}, 80, 70);
  Image whole, window;
  resizer.run(source, plan, whole);
  plan.x = 11, plan.y = 23, plan.window_width = 37, plan.window_height = 29, plan.flip = true;
  resizer.run(source, plan, window);
  for (int y = 0; y < 29; ++y) {
    for (int x = 0; x < 37; ++x) {
      for (int c = 0; c < 3; ++c) {
        ASSERT_EQ(window.row(y)[3 * x + c], whole.row(23 + y)[3 * (11 + 36 - x) + c]);
      }
    }
  }
}

TEST(Resize, RefusesWindowsOutside) {
  Image source;
  source.resize(4, 4);
  Image out;
  Resizer resizer;
  EXPECT_THROW(resizer.run(source, ResizePlan::whole({0, 0, 5, 4}, 2, 2), out), Error);
  EXPECT_THROW(resizer.run(source, ResizePlan::whole({2, 0, 2, 4}, 2, 2), out), Error);
  ResizePlan plan = ResizePlan::whole({0, 0, 4, 4}, 8, 8);
  plan.x = 1;
  EXPECT_THROW(resizer.run(source, plan, out), Error);
}

}  // namespace
}  // namespace mullion
