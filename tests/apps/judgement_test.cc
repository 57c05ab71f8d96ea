// What eval_tic says beyond top-1, on judgements counted by hand.
#include "apps/tic/judgement.h"
#include "apps/tic/judgement_pictures.h"

#include <gtest/gtest.h>

#include "apps/tic/results_file.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tests/apps/temporary_run.h"

namespace mullion {
namespace {

// Three classes; the third image has the wrong class with much confidence.
const std::vector<Judged> kJudged = {{0, 0, 0, 0, 0.9}, {1, 0, 0, 0, 0.6},  {2, 1, 2, 0, 0.95},
                                     {3, 1, 0, 1, 0.4}, {4, 2, 1, 1, 0.55}, {5, 2, 0, 2, 1.0}};

TEST(Judgement, TopKAndClasses) {
  EXPECT_NEAR(topk_accuracy(kJudged, 1), 400.0 / 6, 1e-9);
  EXPECT_NEAR(topk_accuracy(kJudged, 2), 500.0 / 6, 1e-9);
  EXPECT_EQ(topk_accuracy(kJudged, 3), 100);
  EXPECT_EQ(topk_accuracy({}, 1), 0);
  const auto classes = per_class(kJudged, 4);
  EXPECT_EQ(*classes[0].recall(), 100);
  EXPECT_NEAR(*classes[0].precision(), 200.0 / 3, 1e-9);
  EXPECT_EQ(*classes[1].recall(), 50);
  EXPECT_EQ(*classes[1].precision(), 50);
  EXPECT_EQ(*classes[2].recall(), 50);
  EXPECT_EQ(*classes[2].precision(), 100);
  EXPECT_EQ(classes[3].count, 0);
  EXPECT_FALSE(classes[3].recall());
  EXPECT_FALSE(classes[3].precision());
}

TEST(Judgement, ConfusionHasTrueClassesAsRows) {
  EXPECT_EQ(confusion_csv(kJudged, {"a", "b,c", "d"}),
            "true\\predicted,a,\"b,c\",d\na,2,0,0\n\"b,c\",1,1,0\nd,0,1,1\n");
}

// Two bins: (0, 0.5] has one image, 0.4 and right; (0.5, 1] five of mean 0.8, of which three right.
TEST(Judgement, CalibrationIsTheMeanGapOfTheBins) {
  const Calibration c = calibration(kJudged, 2);
  EXPECT_EQ(c.bins[0].count, 1);
  EXPECT_EQ(c.bins[1].count, 5);
  EXPECT_NEAR(c.bins[1].confidence, 0.8, 1e-12);
  EXPECT_NEAR(c.bins[1].accuracy, 0.6, 1e-12);
  EXPECT_NEAR(c.error, 100 * (0.6 * 1 + 0.2 * 5) / 6, 1e-9);
  EXPECT_EQ(calibration({{0, 0, 0, 0, 0.5}}, 2).bins[0].count, 1);  // a bin has its upper edge
}

// Image 1 may be two classes, image 2 has no label, image 3 is another than it was told.
TEST(Judgement, RealLabelsCountAnyRightOne) {
  test::TemporaryRun folder;
  const auto file = folder.path() / "real.json";
  write_whole_file(file, "[[2, 0], [], [1], [1]]");
  std::vector<std::string> names, classes;
  for (int i = 1; i <= 4; ++i)
    names.push_back("ILSVRC2012_val_0000000" + std::to_string(i) + ".JPEG");
  for (int c = 0; c < 1000; ++c) classes.push_back("n" + std::to_string(10000000 + c));
  const std::vector<Judged> judged(kJudged.begin(), kJudged.begin() + 4);
  const RealAccuracy real = real_accuracy(judged, read_real_labels(file, names, classes));
  EXPECT_EQ(real.count, 3);
  EXPECT_NEAR(real.accuracy, 200.0 / 3, 1e-9);

  const auto expect_error = [&](const std::vector<std::string>& words) {
    try {
      read_real_labels(file, names, classes);
      ADD_FAILURE() << words[0];
    } catch (const Error& error) {
      for (const std::string& word : words)
        EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  };
  // Digits at the end of another name are no number of ImageNet's.
  for (const char* other : {"fifth_4.JPEG", "00000004", "ILSVRC2012_val_4.JPEG",
                            "ILSVRC2012_val_000000004.JPEG", "ILSVRC2012_val_00000000.JPEG"}) {
    names[3] = other;
    expect_error({other, "ILSVRC2012_val_ and 8 digits"});
  }
  names[3] = "ILSVRC2012_val_00000005_n10000001.JPEG";
  expect_error({"real.json", "4 images", names[3]});
  names[3] = "ILSVRC2012_val_00000004_n10000001.JPEG";
  for (const char* label : {"1000", "-1", "1.5", "\"1\""}) {
    write_whole_file(file, std::string("[[2], [], [1], [") + label + "]]");
    expect_error({"real.json: entry 4", names[3], label, "no label from 0 to 999"});
  }
  std::swap(classes[0], classes[1]);
  expect_error({"real.json", "another order"});
  classes.pop_back();
  expect_error({"real.json", "1000 classes", "the model has 999"});
}

TEST(Judgement, PicturesHaveTheClassesAndTheBins) {
  const std::string matrix = confusion_svg(kJudged, {"n1 <tench>", "two", "three"});
  EXPECT_EQ(matrix.find("<svg "), 0u);
  for (const char* part : {"data:image/png;base64,", ">n1 &lt;tench&gt;</text>", "6 images of 3"})
    EXPECT_NE(matrix.find(part), std::string::npos) << part;
  const std::string bins = reliability_svg(calibration(kJudged));
  for (const char* part :
       {"<svg xmlns", "<style>", "expected calibration error", "share of the images"})
    EXPECT_NE(bins.find(part), std::string::npos) << part;
  EXPECT_EQ(reliability_svg(calibration({{0, 0, 0, 0, 0.5}})).find("<svg"), 0u);
}

TEST(ResultsFile, HasTimmsColumnsInEachFormat) {
  const std::vector<ResultRow> rows = {{"tic-t", "224", 75.5, 92, 27.5, 0.9, "bicubic"},
                                       {"tic-t", "224x320", 70, 90, 27.5, 0.9, "bicubic"}};
  EXPECT_EQ(results_text("csv", rows),
            "model,img_size,top1,top1_err,top5,top5_err,param_count,crop_pct,interpolation\n"
            "tic-t,224,75.5,24.5,92,8,27.5,0.9,bicubic\n"
            "tic-t,224x320,70,30,90,10,27.5,0.9,bicubic\n");
  EXPECT_EQ(results_text("json", {rows[1]}),
            R"([{"model": "tic-t", "img_size": "224x320", "top1": 70, "top1_err": 30, "top5": 90, )"
            R"("top5_err": 10, "param_count": 27.5, "crop_pct": 0.9, "interpolation": "bicubic"}])"
            "\n");
  EXPECT_EQ(results_text("md", {rows[0]}).find("| model | img_size | top1 |"), 0u);
}

}  // namespace
}  // namespace mullion
