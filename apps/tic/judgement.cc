// Ranks and confidences are taken once; every figure is a count over them.
#include "apps/tic/judgement.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/program/csv.h"
#include "apps/tic/ilsvrc_counts.h"
#include "apps/tic/val_labels.h"
#include "data/decode.h"
#include "tensor/check.h"
#include "tensor/io/json.h"
#include "tensor/words.h"

namespace mullion {

namespace {
double percent(int64_t part, int64_t all) {
  return all > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(all) : 0;
}

std::optional<double> share(int64_t part, int64_t all) {
  return all > 0 ? std::optional(percent(part, all)) : std::nullopt;
}

// The n of a name that has ILSVRC2012_val_n in it, n with 8 digits; 0: none.
int64_t number_of(std::string_view name) {
  constexpr std::string_view kPrefix = "ILSVRC2012_val_";
  const size_t at = name.find(kPrefix);
  if (at == std::string_view::npos) return 0;
  name.remove_prefix(at + kPrefix.size());
  const size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
  return digits == 8 ? number_in<int64_t>(name.substr(0, 8)).value_or(0) : 0;
}

// ReaL counts classes by their places in ImageNet's order.
void check_order(const std::string& name, const std::vector<std::string>& classes) {
  CHECK_AS(Fault::bad_file, classes.size() == kIlsvrcClasses, name,
           ": ReaL's labels are places among ImageNet's ", kIlsvrcClasses,
           " classes, and the model has ", classes.size());
  const bool ids = std::all_of(classes.begin(), classes.end(),
                               [](const std::string& id) { return is_wnid(id); });
  CHECK_AS(Fault::bad_file, !ids || std::is_sorted(classes.begin(), classes.end()), name,
           ": ReaL's labels are places among ImageNet's classes in the order of their ids, and the "
           "model's classes are in another order");
}
}  // namespace

double topk_accuracy(const std::vector<Judged>& judged, int64_t k) {
  return percent(
      std::count_if(judged.begin(), judged.end(), [&](const Judged& j) { return j.rank < k; }),
      std::ssize(judged));
}

std::optional<double> ClassResult::recall() const { return share(right, count); }
std::optional<double> ClassResult::precision() const { return share(right, predicted); }

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
                            const std::vector<std::string>& names,
                            const std::vector<std::string>& classes) {
  const std::string shown = printable(file.string());
  const nlohmann::json lists = read_json_file(file);
  CHECK_AS(Fault::bad_file, lists.is_array(), shown, ": no list with the labels of each image");
  check_order(shown, classes);
  RealLabels all;
  bool any = false;
  for (const std::string& name : names) {
    const int64_t number = number_of(name);
    CHECK_AS(Fault::bad_file, number >= 1, printable(name),
             ": no name of an ImageNet validation image, ILSVRC2012_val_ and 8 digits, by which ",
             shown, " has its labels");
    CHECK_AS(Fault::bad_file, number <= std::ssize(lists), shown, ": has labels for ", lists.size(),
             " images, and not for ", printable(name));
    const nlohmann::json& labels = lists[static_cast<size_t>(number - 1)];
    const std::string where = concat(shown, ": entry ", number, ", for ", printable(name), ": ");
    CHECK_AS(Fault::bad_file, labels.is_array(), where, labels.dump().substr(0, 40),
             " is no list of labels");
    std::vector<int64_t>& own = all.emplace_back();
    for (const nlohmann::json& label : labels) {
      CHECK_AS(Fault::bad_file,
               label.is_number_unsigned() && label.get<uint64_t>() < classes.size(), where,
               label.dump().substr(0, 40), " is no label from 0 to ", classes.size() - 1);
      own.push_back(label.get<int64_t>());
    }
    any |= !own.empty();
  }
  CHECK_AS(Fault::bad_file, any, shown, ": none of the ", names.size(),
           " images has a label there");
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
