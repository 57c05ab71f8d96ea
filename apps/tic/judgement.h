// What an evaluation says beyond top-1: ranks, each class, which are taken for which, and whether
// the model's confidence is right.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace mullion {

// Of one image: its place in the data, its label, the place of the label among the scores (0 the
// highest; equal scores count against it), the class with the highest score and its probability.
struct Judged {
  int64_t sample = 0, label = 0, rank = 0, predicted = 0;
  double confidence = 0;
};

// Percent of the images whose label is among the k highest scores.
double topk_accuracy(const std::vector<Judged>& judged, int64_t k);

struct ClassResult {
  int64_t count = 0, right = 0, predicted = 0;  // images of the class; of those right; told as it
  // Percent; nothing for a class without images, or one that no image was told to be of.
  std::optional<double> recall() const, precision() const;
};
std::vector<ClassResult> per_class(const std::vector<Judged>& judged, int64_t classes);

// Images by true class (rows) and predicted one (columns); the same as CSV with the names at both
// edges.
std::vector<int64_t> confusion_counts(const std::vector<Judged>& judged, size_t classes);
std::string confusion_csv(const std::vector<Judged>& judged, const std::vector<std::string>& names);

// Bins of equal width of the confidence. The expected calibration error is the mean over images of
// |accuracy - confidence| of their bin (Guo et al. 2017, arXiv 1706.04599), in percent.
struct Calibration {
  struct Bin {
    int64_t count = 0;
    double accuracy = 0, confidence = 0;  // means, 0 to 1
  };
  std::vector<Bin> bins;
  double error = 0;
};
Calibration calibration(const std::vector<Judged>& judged, int bins = 15);

// ReaL (Beyer et al. 2020, arXiv 2006.07159): a list with the labels that are right for each of
// ImageNet's validation images; image n is ILSVRC2012_val_n, n with 8 digits, from 1.
using RealLabels = std::vector<std::vector<int64_t>>;
// Those of each image, by the name of its own file. The labels are places among ImageNet's 1,000
// classes in the order of their WordNet ids. Error(bad_file) where the model's `classes` are
// others, where a name is another, or where a label is no class.
RealLabels read_real_labels(const std::filesystem::path& file,
                            const std::vector<std::string>& names,
                            const std::vector<std::string>& classes);
// Percent of the images with a label whose predicted class is one of them, and how many those are.
struct RealAccuracy {
  double accuracy = 0;
  int64_t count = 0;
};
RealAccuracy real_accuracy(const std::vector<Judged>& judged, const RealLabels& labels);

}  // namespace mullion
