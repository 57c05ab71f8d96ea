// The devkit's numbers, Kaggle's list or a list of ids, each told by its form and checked whole.
#include "apps/tic/val_labels.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>

#include "data/image_source.h"
#include "data/mat_file.h"
#include "data/tar.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/words.h"

namespace mullion {
namespace {

constexpr uint64_t kMostBytes = uint64_t{1} << 28;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    while (!lines.back().empty() && (lines.back().back() == '\r' || lines.back().back() == ' '))
      lines.back().pop_back();
    begin = end + 1;
  }
  while (!lines.empty() && lines.back().empty()) lines.pop_back();
  return lines;
}

bool number_of(std::string_view text, int64_t& value) {
  const auto number = number_in<int64_t>(text);
  value = number.value_or(0);
  return number.has_value();
}

// "ILSVRC2012_val_00048981,n03995372 85 1 499 272": lines in any order.
std::vector<std::string> from_kaggle(const std::string& name,
                                     const std::vector<std::string>& lines) {
  std::vector<std::string> labels(lines.size() - 1);
  for (size_t i = 1; i < lines.size(); ++i) {
    const std::string where = concat(name, ":", i + 1, ": ");
    constexpr std::string_view kPrefix = "ILSVRC2012_val_";
    const size_t comma = lines[i].find(',');
    int64_t n = 0;
    CHECK_AS(
        Fault::bad_file,
        comma != std::string::npos && lines[i].starts_with(kPrefix) &&
            number_of(std::string_view(lines[i]).substr(kPrefix.size(), comma - kPrefix.size()),
                      n) &&
            n >= 1 && n < static_cast<int64_t>(lines.size()) && lines[i].size() >= comma + 10,
        where, "expected ILSVRC2012_val_NUMBER,WNID ...");
    std::string& label = labels[static_cast<size_t>(n - 1)];
    CHECK_AS(Fault::bad_file, label.empty(), where, "image ", n, " comes a second time");
    label = lines[i].substr(comma + 1, 9);
    CHECK_AS(Fault::bad_file, is_wnid(label), where, printable(label), " is no WordNet id");
  }
  return labels;
}

// ILSVRC's id of each class: "n02119789 1 kit_fox".
std::map<int64_t, std::string> read_class_map(const std::filesystem::path& file) {
  const std::string name = printable(file.string());
  std::map<int64_t, std::string> map;
  const auto lines = lines_of(read_whole_file(file, kMostBytes));
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string& line = lines[i];
    const size_t space = line.find(' '), end = line.find(' ', space + 1);
    int64_t id = 0;
    CHECK_AS(
        Fault::bad_file,
        space == 9 && is_wnid(std::string_view(line).substr(0, 9)) &&
            number_of(std::string_view(line).substr(10, end == std::string::npos ? end : end - 10),
                      id) &&
            map.emplace(id, line.substr(0, 9)).second,
        name, ":", i + 1, ": expected WNID ID NAME with an id of its own");
  }
  return map;
}

ValLabels from_numbers(const std::string& name, const std::vector<std::string>& lines,
                       const std::map<int64_t, std::string>& map, const std::string& of_map) {
  std::vector<int64_t> numbers(lines.size());
  for (size_t i = 0; i < lines.size(); ++i)
    CHECK_AS(Fault::bad_file, number_of(lines[i], numbers[i]), name, ":", i + 1, ": \"",
             printable(lines[i].substr(0, 40)), "\" is neither a WordNet id nor a number");
  const bool places = *std::min_element(numbers.begin(), numbers.end()) == 0;
  CHECK_AS(Fault::usage, !places || of_map.empty(), of_map, ": has no effect with ", name,
           ", whose numbers are from 0: places among the sorted classes, not ILSVRC's ids");
  CHECK_AS(Fault::bad_file, places || !of_map.empty(), name,
           ": numbers from 1 are ILSVRC's own ids, whose order is not that of the sorted classes: "
           "give --class-map with the devkit's map_clsloc.txt");
  ValLabels labels{name, {}, {}};
  if (places) {
    labels.places = std::move(numbers);
    return labels;
  }
  for (size_t i = 0; i < numbers.size(); ++i) {
    const auto found = map.find(numbers[i]);
    CHECK_AS(Fault::bad_file, found != map.end(), name, ":", i + 1, ": id ", numbers[i],
             " is not in the map of ids");
    labels.wnids.push_back(found->second);
  }
  return labels;
}

void check_labels(const std::vector<std::string>& labels, const std::string& name,
                  const std::vector<std::string>& classes) {
  std::set<std::string> unknown, missing(classes.begin(), classes.end());
  for (const std::string& label : labels) {
    if (!std::binary_search(classes.begin(), classes.end(), label)) unknown.insert(label);
    missing.erase(label);
  }
  CHECK_AS(
      Fault::bad_file, unknown.empty(), name, ": ", unknown.size(),
      " classes that the training images do not have: ", listing({unknown.begin(), unknown.end()}));
  CHECK_AS(Fault::bad_file, missing.empty(), name, ": ", missing.size(),
           " classes without a validation image: ", listing({missing.begin(), missing.end()}));
}

}  // namespace

bool is_wnid(std::string_view text) {
  return text.size() == 9 && text[0] == 'n' &&
         std::all_of(text.begin() + 1, text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::vector<std::string> ValLabels::of(const std::vector<std::string>& classes) const {
  std::vector<std::string> labels = wnids;
  for (size_t i = 0; i < places.size(); ++i) {
    const int64_t n = places[i];
    CHECK_AS(Fault::bad_file, n >= 0 && n < static_cast<int64_t>(classes.size()), name, ":", i + 1,
             ": class ", n, " of ", classes.size());
    labels.push_back(classes[static_cast<size_t>(n)]);
  }
  check_labels(labels, name, classes);
  return labels;
}

ValLabels read_val_labels(const std::filesystem::path& file,
                          const std::filesystem::path& class_map) {
  const std::string name = printable(file.string());
  const std::vector<std::string> lines = lines_of(read_whole_file(file, kMostBytes));
  CHECK_AS(Fault::bad_file, !lines.empty(), name, ": empty file");
  const bool kaggle = lines[0].starts_with("ImageId,");
  const auto map = class_map.empty() ? std::map<int64_t, std::string>() : read_class_map(class_map);
  if (!kaggle && !is_wnid(lines[0]))
    return from_numbers(name, lines, map, class_map.empty() ? "" : "--class-map");
  CHECK_AS(Fault::usage, class_map.empty(), "--class-map: has no effect with ", name,
           ", which has WordNet ids");
  if (kaggle) {
    CHECK_AS(Fault::bad_file, lines.size() > 1, name, ": no images");
    return {name, from_kaggle(name, lines), {}};
  }
  for (size_t i = 0; i < lines.size(); ++i)
    CHECK_AS(Fault::bad_file, is_wnid(lines[i]), name, ":", i + 1, ": \"",
             printable(lines[i].substr(0, 40)), "\" is no WordNet id");
  return {name, lines, {}};
}

ValLabels read_devkit_labels(const std::filesystem::path& devkit) {
  const std::string name = printable(devkit.string());
  const std::string packed = read_whole_file(devkit, kMostBytes);
  const std::string unpacked = unpack_zlib(packed, kMostBytes, name);
  const auto source = view_bytes(std::as_bytes(std::span(unpacked)), devkit.string());
  TarReader tar(*source);
  TarMember member;
  std::string truth, table;
  while (tar.next(member)) {
    const auto take = [&](std::string_view wanted, std::string& into) {
      if (!member.name.ends_with(wanted)) return;
      into = unpacked.substr(member.offset, member.size);
    };
    take("data/ILSVRC2012_validation_ground_truth.txt", truth);
    take("data/meta.mat", table);
  }
  CHECK_AS(Fault::bad_file, !truth.empty() && !table.empty(), name,
           ": no devkit: data/ILSVRC2012_validation_ground_truth.txt or data/meta.mat is missing");
  std::map<int64_t, std::string> map;
  for (const MatRecord& record : read_mat_structs(table, "synsets", name + "/data/meta.mat")) {
    int64_t id = 0;
    const auto number = record.find("ILSVRC2012_ID"), wnid = record.find("WNID");
    CHECK_AS(Fault::bad_file,
             number != record.end() && wnid != record.end() && number_of(number->second, id) &&
                 is_wnid(wnid->second) && map.emplace(id, wnid->second).second,
             name, "/data/meta.mat: a class without ILSVRC2012_ID and WNID of its own");
  }
  const std::vector<std::string> lines = lines_of(truth);
  CHECK_AS(Fault::bad_file, !lines.empty(), name, ": no labels");
  return from_numbers(name + "/ILSVRC2012_validation_ground_truth.txt", lines, map, "meta.mat");
}

}  // namespace mullion
