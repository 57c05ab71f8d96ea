// Ranks and confidences are taken once; every figure is a count over them.
#include "apps/tic/judgement.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/program/csv.h"
#include "tensor/check.h"
#include "tensor/io/json.h"

namespace mullion {

namespace {
double percent(int64_t part, int64_t all) {
  return all > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(all) : 0;
}

// The number at the end of "ILSVRC2012_val_00000123.JPEG"; 0: none.
int64_t number_of(const std::string& path) {
  const std::string stem = std::filesystem::path(path).stem().string();
  const size_t begin = stem.find_last_not_of("0123456789") + 1;
  int64_t number = 0;
  std::from_chars(stem.data() + begin, stem.data() + stem.size(), number);
  return number;
}
}  // namespace

double topk_accuracy(const std::vector<Judged>& judged, int64_t k) {
  return percent(
      std::count_if(judged.begin(), judged.end(), [&](const Judged& j) { return j.rank < k; }),
      std::ssize(judged));
}

double ClassResult::recall() const { return percent(right, count); }
double ClassResult::precision() const { return percent(right, predicted); }

std::vector<ClassResult> per_class(const std::vector<Judged>& judged, int64_t classes) {
  std::vector<ClassResult> results(static_cast<size_t>(classes));
  for (const Judged& j : judged) {
    ClassResult& own = results[static_cast<size_t>(j.label)];
    ++own.count;
    own.right += j.rank == 0;
    ++results[static_cast<size_t>(j.predicted)].predicted;
  }
  return results;
}

std::vector<int64_t> confusion_counts(const std::vector<Judged>& judged, size_t classes) {
  std::vector<int64_t> counts(classes * classes);
  for (const Judged& j : judged)
    ++counts[static_cast<size_t>(j.label) * classes + static_cast<size_t>(j.predicted)];
  return counts;
}

std::string confusion_csv(const std::vector<Judged>& judged,
                          const std::vector<std::string>& names) {
  const size_t n = names.size();
  const std::vector<int64_t> counts = confusion_counts(judged, n);
  std::string csv = "true\\predicted";
  for (const std::string& name : names) csv += "," + csv_field(name);
  csv += "\n";
  for (size_t row = 0; row < n; ++row) {
    csv += csv_field(names[row]);
    for (size_t column = 0; column < n; ++column)
      csv += "," + std::to_string(counts[row * n + column]);
    csv += "\n";
  }
  return csv;
}

Calibration calibration(const std::vector<Judged>& judged, int bins) {
  Calibration result;
  result.bins.resize(static_cast<size_t>(bins));
  // A bin holds its upper edge, as in the paper.
  for (const Judged& j : judged) {
    const auto place = static_cast<int>(std::ceil(j.confidence * bins)) - 1;
    Calibration::Bin& bin = result.bins[static_cast<size_t>(std::clamp(place, 0, bins - 1))];
    ++bin.count;
    bin.accuracy += j.predicted == j.label ? 1 : 0;
    bin.confidence += j.confidence;
  }
  for (Calibration::Bin& bin : result.bins) {
    if (bin.count == 0) continue;
    result.error +=
        100 * std::abs(bin.accuracy - bin.confidence) / static_cast<double>(judged.size());
    bin.accuracy /= static_cast<double>(bin.count);
    bin.confidence /= static_cast<double>(bin.count);
  }
  return result;
}

RealLabels read_real_labels(const std::filesystem::path& file,
                            const std::vector<std::string>& paths, int64_t classes) {
  const std::string name = file.string();
  const nlohmann::json lists = read_json_file(file);
  CHECK_AS(Fault::bad_file, lists.is_array(), name, ": no list with the labels of each image");
  RealLabels all;
  bool any = false;
  for (const std::string& path : paths) {
    const int64_t number = number_of(path);
    CHECK_AS(Fault::bad_file, number >= 1 && number <= std::ssize(lists), name, ": has labels for ",
             lists.size(), " images, and the number in the name of ", path, " is ", number);
    const nlohmann::json& labels = lists[static_cast<size_t>(number - 1)];
    CHECK_AS(Fault::bad_file, labels.is_array(), name, ": entry ", number, " is no list");
    std::vector<int64_t>& own = all.emplace_back();
    for (const nlohmann::json& label : labels)
      own.push_back(static_cast<int64_t>(
          as_uint(label, name, concat("entry ", number), static_cast<uint64_t>(classes - 1))));
    any |= !own.empty();
  }
  CHECK_AS(Fault::bad_file, any, name, ": none of the ", paths.size(), " images has a label there");
  return all;
}

RealAccuracy real_accuracy(const std::vector<Judged>& judged, const RealLabels& labels) {
  RealAccuracy result;
  int64_t right = 0;
  for (const Judged& j : judged) {
    const std::vector<int64_t>& own = labels[static_cast<size_t>(j.sample)];
    if (own.empty()) continue;
    ++result.count;
    right += std::find(own.begin(), own.end(), j.predicted) != own.end();
  }
  result.accuracy = percent(right, result.count);
  return result;
}

}  // namespace mullion
