// data_tic check and stats: every picture of a data set opened once.
#include <algorithm>
#include <array>
#include <cmath>

#include "apps/program/log.h"
#include "apps/program/progress.h"
#include "apps/program/signals.h"
#include "apps/tic/data_verbs.h"
#include "apps/tic/image_data.h"
#include "data/image_shards.h"
#include "data/jpeg.h"
#include "data/png.h"
#include "data/utf8.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/file_place.h"
#include "tensor/parallel.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

struct Seen {
  std::string fault;
  int width = 0, height = 0, components = 0, orientation = 0;
  bool png = false;
  std::array<float, 3> mean{}, square{};  // of levels / 255
};

Seen look_at(const ImageSource& source, int64_t index, bool sums) {
  thread_local std::vector<uint8_t> bytes;
  thread_local Image image;
  Seen seen;
  const std::string path = source.path(index);
  try {
    source.read(index, bytes);
    const EncodedImage file(bytes, path);
    seen.width = file.width(), seen.height = file.height();
    seen.orientation = file.orientation();
    seen.png = file.type() == ImageType::png;
    seen.components = seen.png ? read_png_layout(bytes, {}, path).components
                               : read_jpeg_layout(bytes, {}, path).components;
    file.decode(image);
    if (!sums) return seen;
    std::array<double, 3> sum{}, square{};
    for (size_t i = 0; i < image.pixels.size(); i += 3) {
      for (size_t c = 0; c < 3; ++c) {
        const double level = image.pixels[i + c] / 255.0;
        sum[c] += level;
        square[c] += level * level;
      }
    }
    const double pixels = static_cast<double>(image.pixels.size()) / 3;
    for (size_t c = 0; c < 3; ++c) {
      seen.mean[c] = static_cast<float>(sum[c] / pixels);
      seen.square[c] = static_cast<float>(square[c] / pixels);
    }
  } catch (const Error& error) {
    if (error.fault() != Fault::bad_file) throw;
    seen.fault = error.what();
  }
  return seen;
}

// All pictures in their order, or as far as a signal lets it come.
std::vector<Seen> look_at_all(const ImageSource& source, bool sums, const std::string& label) {
  constexpr int64_t kWindow = 256;
  std::vector<Seen> seen;
  int64_t faults = 0;
  Progress progress(label, source.size());
  while (static_cast<int64_t>(seen.size()) < source.size() && !stop_requested()) {
    const auto begin = static_cast<int64_t>(seen.size());
    const int64_t count = std::min(kWindow, source.size() - begin);
    seen.resize(static_cast<size_t>(begin + count));
    parallel_items(count, [&](int64_t i, int) {
      seen[static_cast<size_t>(begin + i)] = look_at(source, begin + i, sums);
    });
    for (int64_t i = begin; i < begin + count; ++i)
      faults += !seen[static_cast<size_t>(i)].fault.empty();
    progress.update(begin + count, concat(faults, " unreadable"));
  }
  return seen;
}

// The shorter sides by powers of two.
JsonObject size_histogram(const std::vector<Seen>& seen) {
  constexpr std::array<int, 7> kEdges = {1, 32, 64, 128, 256, 512, 1024};
  std::array<int64_t, kEdges.size()> counts{};
  for (const Seen& s : seen) {
    if (s.width == 0) continue;
    size_t bin = 0;
    while (bin + 1 < kEdges.size() && std::min(s.width, s.height) >= kEdges[bin + 1]) ++bin;
    ++counts[bin];
  }
  JsonObject histogram;
  for (size_t bin = 0; bin < kEdges.size(); ++bin) {
    const bool last = bin + 1 == kEdges.size();
    histogram.set(concat(kEdges[bin], last ? "+" : concat("-", kEdges[bin + 1] - 1)), counts[bin]);
  }
  return histogram;
}

// Pictures a class: the least and the most, and the mean.
JsonObject class_balance(const ImageSource& source) {
  std::vector<int64_t> counts(source.classes().size());
  for (int64_t i = 0; i < source.size(); ++i) ++counts[static_cast<size_t>(source.label(i))];
  const auto least = std::min_element(counts.begin(), counts.end());
  const auto most = std::max_element(counts.begin(), counts.end());
  const auto name = [&](auto place) {
    return source.classes()[static_cast<size_t>(place - counts.begin())];
  };
  return JsonObject()
      .set("classes", counts.size())
      .set("least", *least)
      .set("least_class", name(least))
      .set("most", *most)
      .set("most_class", name(most));
}

constexpr const char* kWholeFolder = "images";  // in the place of a split's name

using Split = std::pair<std::string, std::shared_ptr<const ImageSource>>;

// train and the validation split where the folder has them; else the folder itself.
std::vector<Split> open_splits(const Options& options) {
  const fs::path root = options.get<std::string>("data.dir");
  CHECK_AS(Fault::bad_file, fs::is_directory(root), printable(root.string()), ": no such folder");
  FolderOptions folder;
  std::vector<Split> splits;
  if (fs::is_directory(root / "train") || !find_shards(root, "train").empty())
    splits.emplace_back("train", open_images(root, "train", folder));
  if (const std::string val = validation_split(root, ""); !val.empty()) {
    if (!splits.empty()) folder.classes = &splits[0].second->classes();
    splits.emplace_back(val, open_images(root, val, folder));
  }
  if (splits.empty()) splits.emplace_back(kWholeFolder, open_images(root, "", folder));
  for (const Split& split : splits) tell_of(*split.second);
  return splits;
}

void add_folder(OptionTable& table) {
  table.add_optional<std::string>("data.dir", "DIR", "class folders or shards").required();
}

// How many shards of a split have an index beside them that says something else than they hold. An
// index is else trusted by the size and time of its shard, which a copy may keep.
int64_t check_indexes(const fs::path& root, const std::string& split) {
  int64_t wrong = 0;
  for (const fs::path& shard : find_shards(root, split)) {
    if (stop_requested()) break;
    const std::string fault = index_fault(shard);
    if (fault.empty()) continue;
    ++wrong;
    log_warning(fault);
  }
  return wrong;
}

Outcome check(const Options& options) {
  if (options.has("log.list")) check_file_place(options.get<fs::path>("log.list"));
  JsonObject result;
  std::string list;
  int64_t unreadable = 0, unlisted = 0, wrong_indexes = 0;
  for (const auto& [name, source] : open_splits(options)) {
    for (const NotTaken& n : source->not_taken())
      if (n.kind == kUnlistedShards) unlisted = n.count;
    if (dynamic_cast<const ImageShards*>(source.get()))
      wrong_indexes += check_indexes(source->root(), name == kWholeFolder ? "" : name);
    const std::vector<Seen> seen = look_at_all(*source, false, "check " + name);
    if (static_cast<int64_t>(seen.size()) < source->size())
      return {result.set("stopped", stop_reason()), kExitStopped};
    int64_t png = 0, misnamed = 0, grey = 0, cmyk = 0, turned = 0, faults = 0;
    for (size_t i = 0; i < seen.size(); ++i) {
      const Seen& s = seen[i];
      png += s.png;
      misnamed += s.png && !ascii_lower(source->path(static_cast<int64_t>(i))).ends_with(".png");
      grey += s.components == 1;
      cmyk += s.components == 4;
      turned += s.orientation > 1;
      if (s.fault.empty()) continue;
      ++faults;
      list += s.fault + "\n";
      log_warning(s.fault);
    }
    unreadable += faults;
    result.set(name, JsonObject()
                         .set("images", source->size())
                         .set("balance", class_balance(*source))
                         .set("jpeg", source->size() - png - faults)
                         .set("png", png)
                         .set("png_under_another_name", misnamed)
                         .set("grey", grey)
                         .set("cmyk", cmyk)
                         .set("turned_by_exif", turned)
                         .set("shorter_side", size_histogram(seen))
                         .set("not_taken", not_taken(*source))
                         .set("unreadable", faults));
    print_result(options,
                 concat(name, ": ", source->size(), " images of ", source->classes().size(),
                        " classes: ", png, " PNG, ", grey, " grey, ", cmyk, " CMYK, ", turned,
                        " turned by EXIF, ", faults, " unreadable"));
    print_result(options, concat(name, ": shorter sides ", size_histogram(seen).text()));
  }
  if (options.has("log.list")) write_whole_file(options.get<fs::path>("log.list"), list);
  result.set("unreadable", unreadable)
      .set("unlisted_shards", unlisted)
      .set("wrong_indexes", wrong_indexes);
  const bool good = unreadable + unlisted + wrong_indexes == 0;
  return {result, good ? 0 : static_cast<int>(Fault::bad_file)};
}

Outcome stats(const Options& options) {
  const Split split = open_splits(options)[0];
  const ImageSource& source = *split.second;
  const std::vector<Seen> seen = look_at_all(source, true, "stats " + split.first);
  if (static_cast<int64_t>(seen.size()) < source.size())
    return {JsonObject().set("stopped", stop_reason()), kExitStopped};
  std::array<double, 3> mean{}, square{};
  int64_t readable = 0;
  for (const Seen& s : seen) {
    if (!s.fault.empty()) {
      log_warning(s.fault, "; left out");
      continue;
    }
    ++readable;
    for (size_t c = 0; c < 3; ++c) mean[c] += s.mean[c], square[c] += s.square[c];
  }
  CHECK_AS(Fault::bad_file, readable > 0, printable(source.root()), ": no picture can be read");
  std::vector<double> means, deviations;
  for (size_t c = 0; c < 3; ++c) {
    const double m = mean[c] / static_cast<double>(readable);
    means.push_back(m);
    deviations.push_back(std::sqrt(square[c] / static_cast<double>(readable) - m * m));
  }
  const JsonObject result = JsonObject()
                                .set("split", split.first)
                                .set("images", readable)
                                .set("mean", means)
                                .set("std", deviations)
                                .set("balance", class_balance(source))
                                .set("shorter_side", size_histogram(seen));
  print_result(options, result.text());
  return result;
}

}  // namespace

Verb check_verb() {
  OptionTable table(
      "data_tic check",
      "Opens and decodes every image; exit code 3 where one cannot be read, a shard is not in "
      "_info.json, or an index is not what its shard holds.");
  add_folder(table);
  table.add_optional<fs::path>("log.list", "--list", "file for the unreadable images, one a line");
  table.add_common_without(true, true);
  return {table, check};
}

Verb stats_verb() {
  OptionTable table("data_tic stats",
                    "Mean and deviation of the channels (each image counts the same), images a "
                    "class, sizes.");
  add_folder(table);
  table.add_common_without(true, true);
  return {table, stats};
}

}  // namespace mullion
