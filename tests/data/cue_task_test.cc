// The cue task is what it says: objects apart, classes even, the same through files.
#include "data/cue_task.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "data/image_folder.h"
#include "tensor/check.h"

namespace mullion {
namespace {

// Pixels of each colour outside of the background's grey levels.
std::map<int, int> coloured(const Image& image) {
  std::map<int, int> counts;
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    const uint8_t* p = &image.pixels[i];
    if (*std::max_element(p, p + 3) >= 200) ++counts[p[0] << 16 | p[1] << 8 | p[2]];
  }
  return counts;
}

TEST(CueTask, TwoColoursOneOfThemTheCues) {
  std::vector<int> classes(kCueClasses);
  for (uint64_t i = 0; i < 1000; ++i) {
    const CueScene scene = cue_scene({}, 1, i);
    ++classes[size_t(scene.label)];
    const auto colours = coloured(scene.image);
    ASSERT_EQ(colours.size(), 2u);
    int pixels = 0, most = 0;
    for (const auto& [colour, count] : colours) pixels += count, most = std::max(most, count);
    EXPECT_GE(most, 16 + 9);  // the cue and a glyph: nothing covers anything
    EXPECT_GE(pixels, 16 + 9 + 9);
  }
  for (int count : classes) EXPECT_EQ(count, 100);
}

TEST(CueTask, ClassesTakeTurnsAndNothingElseDoes) {
  std::vector<std::map<int, int>> colours(kCueClasses);
  for (uint64_t i = 0; i < 1000; ++i) {
    const CueScene scene = cue_scene({}, 2, i);
    EXPECT_EQ(scene.label, static_cast<int64_t>(i % kCueClasses));
    for (const auto& [colour, count] : coloured(scene.image))
      ++colours[size_t(scene.label)][colour];
  }
  for (const auto& of_class : colours) {
    EXPECT_EQ(of_class.size(), 6u);
    for (const auto& [colour, count] : of_class) EXPECT_NEAR(count, 33, 20);
  }
}

TEST(CueTask, GlyphAloneIsTheOneThatCounts) {
  CueOptions lesson, half;
  lesson.alone = 1, half.alone = 0.5;
  int alone = 0;
  for (uint64_t i = 0; i < 400; ++i) {
    const CueScene whole = cue_scene({}, 3, i), part = cue_scene(lesson, 3, i);
    ASSERT_EQ(part.label, whole.label);
    const auto left = coloured(part.image), all = coloured(whole.image);
    ASSERT_EQ(left.size(), 1u);
    const auto& [colour, count] = *left.begin();
    EXPECT_EQ(all.at(colour), count);  // cue and glyph are as they were
    EXPECT_GE(count, 16 + 9);
    alone += coloured(cue_scene(half, 3, i).image).size() == 1;
  }
  EXPECT_NEAR(alone, 200, 50);
}

TEST(CueTask, LessonsEndAfterTheirEpochs) {
  const CueDataset task({}, 200, 4, true), lessons({}, 200, 4, true, 10);
  std::vector<float> a(32 * 32 * 3), b(a);
  const auto easier = [&](int64_t epoch) {
    int count = 0;
    for (int64_t i = 0; i < 200; ++i) {
      EXPECT_EQ(task.load({0, epoch, i}, a.data()), lessons.load({0, epoch, i}, b.data()));
      count += a != b;
    }
    return count;
  };
  EXPECT_EQ(easier(0), 200);
  EXPECT_NEAR(easier(5), 100, 40);
  EXPECT_EQ(easier(10), 0);
  EXPECT_EQ(easier(11), 0);
}

TEST(CueTask, SameSceneOnAnyCanvas) {
  for (uint64_t i = 0; i < 50; ++i) {
    const CueScene small = cue_scene({}, 5, i), large = cue_scene({48, 80, false}, 5, i);
    const CueScene spread = cue_scene({64, 64, true}, 5, i);
    EXPECT_EQ(small.label, large.label);
    EXPECT_EQ(small.label, spread.label);
    EXPECT_EQ(coloured(small.image), coloured(large.image));
    EXPECT_EQ(coloured(small.image), coloured(spread.image));
  }
  EXPECT_THROW(cue_scene({31, 32, false}, 1, 1), Error);
}

TEST(CueTask, FreshEveryEpochOrFixed) {
  std::vector<float> a(32 * 32 * 3), b(a);
  const CueDataset fresh({}, 100, 3, true), fixed({}, 100, 3, false);
  fresh.load({0, 0, 7}, a.data());
  fresh.load({0, 1, 7}, b.data());
  EXPECT_NE(a, b);
  fixed.load({0, 0, 7}, a.data());
  fixed.load({9, 1, 7}, b.data());
  EXPECT_EQ(a, b);
}

TEST(CueTask, FilesGiveTheSameSamples) {
  const auto root =
      std::filesystem::temp_directory_path() / ("mullion_cue_" + std::to_string(::getpid()));
  write_cue_folder(root, {}, 3, 11);
  const auto folder = std::make_shared<ImageFolder>(root);
  EXPECT_EQ(folder->classes(), cue_class_names());
  EXPECT_EQ(folder->size(), 30);
  EvalTransform eval;
  eval.height = eval.width = 32, eval.crop_pct = 1;
  eval.normalization = CueDataset::normalization();
  const ImageDataset files(folder, eval);
  const CueDataset made({}, 1000, 11, false);
  std::vector<float> from_file(32 * 32 * 3), direct(from_file);
  std::vector<int> next(kCueClasses);
  for (int64_t i = 0; i < 12; ++i) {  // the first scenes are the first files of their classes
    const int64_t label = made.load({0, 0, i}, direct.data());
    const int place = next[size_t(label)]++;
    if (place >= 3) continue;
    EXPECT_EQ(files.load({0, 0, label * 3 + place}, from_file.data()), label);
    for (size_t k = 0; k < direct.size(); ++k) ASSERT_NEAR(from_file[k], direct[k], 1e-5);
  }
  std::filesystem::remove_all(root);
}

}  // namespace
}  // namespace mullion
