// Readers make the bytes of samples in parallel; one writer closes shards at their size, in order.
#include "apps/tic/pack.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "apps/options/byte_size.h"
#include "apps/program/log.h"
#include "apps/program/progress.h"
#include "apps/program/signals.h"
#include "apps/tic/class_names.h"
#include "apps/tic/data_verbs.h"
#include "apps/tic/image_data.h"
#include "apps/tic/output_lock.h"
#include "apps/tic/shard_writer.h"
#include "data/jpeg_encode.h"
#include "data/order.h"
#include "tensor/check.h"
#include "tensor/io/file_ops.h"
#include "tensor/io/json.h"
#include "tensor/io/sha256.h"
#include "tensor/parallel.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
constexpr char kSizesAndTimes[] = "sizes_and_times_sha256";

constexpr int64_t kWindow = 64;  // pictures that are in memory at once

// The picture's bytes, or a smaller picture, and what is known of it. A smaller one is stored as
// the first was, turned or not, with the same EXIF orientation. A picture that cannot be read keeps
// its bytes: whoever reads the shard meets it as in the folder.
PackedSample packed(const ImageSource& source, int64_t index, const PackOptions& options) {
  PackedSample sample;
  sample.extension = "jpg";
  JsonObject json;
  const std::string path = source.path(index);
  json.set("file", fs::path(path).filename().string())
      .set("class", source.classes()[static_cast<size_t>(source.label(index))])
      .set("label", source.label(index));
  std::error_code error;
  const bool empty = fs::file_size(path, error) == 0 && !error;
  if (!empty) source.read(index, sample.bytes);
  try {
    const EncodedImage file(sample.bytes, path);
    if (file.type() == ImageType::png) sample.extension = "png";
    int width = file.width(), height = file.height();
    const int shorter = std::min(width, height);
    if (options.resize_short > 0 && shorter > options.resize_short) {
      Image image, small;
      const Box all = file.decode({0, 0, width, height}, 0, 0, image);
      const auto scaled = [&](int side) {
        return std::max(1, rounded(double{1} * side * options.resize_short / shorter));
      };
      width = scaled(width), height = scaled(height);
      Resizer().run(image, ResizePlan::whole(all, width, height), small);
      sample.bytes = encode_jpeg(small, options.quality, file.orientation());
      sample.lost = file.notes().without(ImageNote::orientation_ignored);
    }
    json.set("width", width).set("height", height);
  } catch (const Error& fault) {
    if (fault.fault() != Fault::bad_file) throw;
    sample.fault = fault.what();
  }
  sample.json = json.text();
  return sample;
}

std::vector<int64_t> pack_order(const ImageSource& source, bool shuffled, uint64_t seed) {
  if (shuffled) return epoch_order(source.size(), seed, 0);
  std::vector<int64_t> order(static_cast<size_t>(source.size()));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
  return order;
}

struct PackedSplit {
  nlohmann::json info;
  int64_t images = 0, unreadable = 0, written = 0;  // shards
  std::vector<NoteCount> lost;
  bool complete = true;
};

PackedSplit pack_split(const ImageSource& source, const std::string& split, const fs::path& to,
                       const PackOptions& options) {
  PackedSplit result;
  const std::vector<int64_t> order =
      pack_order(source, options.shuffle && split == "train", options.seed);
  std::vector<std::string> names;
  std::vector<int64_t> lengths;
  Progress progress("pack " + split, source.size());
  std::optional<ShardWriter> writer;
  std::vector<PackedSample> window;
  NoteCounter lost(source.size());
  int64_t done = 0;
  const auto close = [&] {
    ++result.written;
    lengths.push_back(writer->samples());
    writer->finish();
    writer.reset();
  };
  while (done < source.size() && result.complete) {
    if (!writer) {
      char name[64];
      std::snprintf(name, sizeof name, "-%06zu.tar", names.size());
      names.push_back(split + name);
      const fs::path shard = to / names.back();
      if (fs::exists(shard)) {  // whole, of a run that was cut later
        lengths.push_back(static_cast<int64_t>(open_shard_index(shard).samples.size()));
        done += lengths.back();
        CHECK_AS(Fault::bad_file, done <= source.size(), printable(shard.string()),
                 ": has more samples than the folder");
        continue;
      }
      writer.emplace(shard);
    }
    const int64_t count = std::min(kWindow, source.size() - done);
    window.assign(static_cast<size_t>(count), {});
    parallel_items(count, [&](int64_t i, int) {
      window[static_cast<size_t>(i)] =
          packed(source, order[static_cast<size_t>(done + i)], options);
    });
    for (size_t i = 0; i < window.size() && writer; ++i, ++done) {
      char key[32];
      std::snprintf(key, sizeof key, "%08lld", static_cast<long long>(done));
      const int64_t own = order[static_cast<size_t>(done)];
      writer->add(key, window[i], source.label(own));
      lost.add(window[i].lost, own, source.path(own));
      if (!window[i].fault.empty()) {
        ++result.unreadable;
        log_warning(window[i].fault, "; packed as it is");
      }
      if (writer->bytes() >= options.shard_bytes) close();
    }
    progress.update(done, concat(names.size(), " shards"));
    result.complete = !stop_requested();
  }
  if (writer && result.complete) close();
  result.images = done;
  result.lost = lost.counts();
  result.info = {
      {"name", split}, {"num_samples", done}, {"filenames", names}, {"shard_lengths", lengths}};
  return result;
}

// What decides the shards' bytes: written before the first of them, and the same for a run that
// goes on. Of the images' bytes their sizes and times stand for all: reading them would be the work
// itself.
nlohmann::json split_plan(const ImageSource& source, const std::string& split,
                          const PackOptions& options) {
  Sha256 names, files;
  for (int64_t i = 0; i < source.size(); ++i) {
    const fs::path path = source.path(i);
    names.update(
        concat(path.lexically_relative(source.root()).string(), "\n", source.label(i), "\n"));
    struct stat s {};
    CHECK_AS(Fault::bad_file, ::stat(path.c_str(), &s) == 0, printable(path.string()), ": ",
             std::strerror(errno));
    files.update(concat(s.st_size, " ", s.st_mtim.tv_sec, " ", s.st_mtim.tv_nsec, "\n"));
  }
  return {{"split", split},
          {"images", source.size()},
          {"names_sha256", names.hex()},
          {kSizesAndTimes, files.hex()},
          {"shard_bytes", options.shard_bytes},
          {"resize_short", options.resize_short},
          {"quality", options.quality},
          {"shuffle", options.shuffle},
          {"seed", options.seed}};
}

using Splits = std::vector<std::pair<std::string, std::shared_ptr<const ImageFolder>>>;

nlohmann::json plan_of(const Splits& splits, const PackOptions& options) {
  nlohmann::json plan = nlohmann::json::array();
  for (const auto& [name, source] : splits) plan.push_back(split_plan(*source, name, options));
  return plan;
}

// Folders beside train and the validation images; in the end also that there are none of these.
std::vector<std::string> say_what_is_left_out(const fs::path& from, const std::string& val) {
  std::vector<std::string> others;
  for (const auto& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory() && !name.starts_with(".") && name != "train" && name != val)
      others.push_back(name);
  }
  std::sort(others.begin(), others.end());
  if (!others.empty())
    log_warning(printable(from.string()), ": packed are train", val.empty() ? "" : " and " + val,
                ", left out: ", listing(others));
  if (val.empty())
    log_warning(printable(from.string()),
                ": no validation images (val, validation or test): only train is packed");
  return others;
}

// What a run that was killed leaves: a shard in the making, or a file that AtomicFile was writing.
bool is_left_over(const std::string& name) {
  const size_t end = std::min(name.rfind(".partial"), name.rfind(".tmp-"));
  if (!name.starts_with(".") || end == std::string::npos) return false;
  const std::string own = name.substr(1, end - 1);
  return own == "_pack.json" || own == "_info.json" || own.ends_with(".tar") ||
         own.ends_with(".tar.idx");
}

// A packing that was begun before the plan had them goes on without.
bool keeps_times(const nlohmann::json& plan) {
  return std::all_of(plan.begin(), plan.end(), [](const nlohmann::json& split) {
    return split.is_object() && split.contains(kSizesAndTimes);
  });
}

// What two plans have in another way, for a message.
std::string difference(const nlohmann::json& old, const nlohmann::json& plan) {
  if (!old.is_array() || old.size() != plan.size()) return "other splits";
  for (size_t i = 0; i < plan.size(); ++i)
    for (const auto& [key, value] : plan[i].items()) {
      const bool kept = old[i].is_object() && old[i].contains(key);
      if (kept && old[i][key] == value) continue;
      if (!kept && key == kSizesAndTimes) continue;
      const char* const why = !kept                   ? " is not there"
                              : key == kSizesAndTimes ? ", images were changed since"
                                                      : "";
      return concat(key, " of ", plan[i]["split"].get<std::string>(), why);
    }
  for (size_t i = 0; i < plan.size(); ++i)
    for (const auto& [key, value] : old[i].items())
      if (!plan[i].contains(key)) return "more than is known";
  return "";
}

// The folder is new, or one in which the same work was begun.
void begin_folder(const fs::path& to, const nlohmann::json& plan) {
  std::vector<fs::path> left_over;
  for (const auto& entry : fs::directory_iterator(to))
    if (is_left_over(entry.path().filename().string())) left_over.push_back(entry.path());
  for (const fs::path& path : left_over) remove_file(path);
  const fs::path file = to / "_pack.json";
  if (fs::exists(file)) {
    const nlohmann::json old = read_json_file(file);
    const std::string other = difference(old, plan);
    CHECK_AS(Fault::usage, other.empty(), printable(to.string()),
             ": was packed from other images or with other options (_pack.json: ", other,
             "); remove it, or choose another folder");
    if (!keeps_times(old))
      log_warning(
          "the packing was begun by a version that kept no sizes and times of the images: whether "
          "they were changed since is not known");
  } else {
    for (const auto& entry : fs::directory_iterator(to))
      CHECK_AS(Fault::usage, entry.path().filename() == ".lock", printable(to.string()),
               ": is not empty: ", printable(entry.path().filename().string()));
    write_json_file(file, plan);
  }
}

// Shards in a folder that is read would be pictures not taken, or a class of the next reading.
void refuse_own_input(const fs::path& from, const std::vector<std::string>& splits,
                      const fs::path& to) {
  const fs::path output = fs::weakly_canonical(to);
  const auto refuse = [&](const fs::path& input) {
    fail(Fault::usage, "--output ", printable(to.string()), ": is in ", printable(input.string()),
         ", whose images are packed; choose a folder outside of it");
  };
  if (output == fs::weakly_canonical(from)) refuse(from);
  for (const std::string& split : splits) {
    const fs::path input = fs::weakly_canonical(from / split);
    const fs::path below = output.lexically_relative(input);
    if (!below.empty() && *below.begin() != "..") refuse(from / split);
  }
}

}  // namespace

JsonObject pack_images(const fs::path& from, const fs::path& to, const PackOptions& options) {
  FolderOptions folder;
  const auto train = std::make_shared<ImageFolder>((from / "train").string(), folder);
  folder.classes = &train->classes();
  Splits splits = {{"train", train}};
  const std::string val = validation_split(from, "");
  refuse_own_input(from, {"train", val.empty() ? "train" : val}, to);
  if (!val.empty())
    splits.emplace_back(val, std::make_shared<ImageFolder>((from / val).string(), folder));
  for (const auto& [name, source] : splits) tell_of(*source);
  const std::vector<std::string> left_out = say_what_is_left_out(from, val);
  const nlohmann::json plan = plan_of(splits, options);
  const OutputLock lock(to);
  begin_folder(to, plan);
  nlohmann::json infos = nlohmann::json::object();
  JsonObject result, notes;
  int64_t shards = 0, images = 0, unreadable = 0, written = 0;
  for (const auto& [name, source] : splits) {
    const PackedSplit packed = pack_split(*source, name, to, options);
    if (!packed.complete)
      return JsonObject().set("stopped", stop_reason()).set("images", images + packed.images);
    infos[name] = packed.info;
    shards += static_cast<int64_t>(packed.info["filenames"].size());
    images += packed.images;
    unreadable += packed.unreadable;
    written += packed.written;
    NoteTeller().tell_totals(packed.lost, concat("images of ", name, " made smaller"));
    notes.set(name, notes_of(packed.lost));
  }
  CHECK_AS(Fault::bad_file, plan_of(splits, options) == plan, printable(from.string()),
           ": images were changed while they were packed: remove ", printable(to.string()),
           " and pack again");
  if (const auto names = class_names_beside(from)) {
    fs::copy_file(*names, to / names->filename(), fs::copy_options::overwrite_existing);
    log_info("names of the classes: ", printable(names->string()), " goes along");
  }
  // Last: a folder without it is not finished.
  write_json_file(to / "_info.json", {{"name", printable(from.filename().string())},
                                      {"splits", infos},
                                      {"class_names", train->classes()}});
  if (written > 0)
    log_info("wrote ", written, " shards to ", printable(to.string()), ", which now has ", shards,
             " shards of ", images, " images");
  else
    log_info("no shard was written: ", printable(to.string()), " was complete already, ", shards,
             " shards of ", images, " images");
  return result.set("output", to.string())
      .set("shards", shards)
      .set("written", written)
      .set("images", images)
      .set("unreadable", unreadable)
      .set("notes", notes)
      .set("left_out", left_out);
}

namespace {

Outcome pack(const Options& options) {
  PackOptions o;
  o.shard_bytes =
      parse_bytes(options.get<std::string>("data.shard_size"), "--shard-size", 1e3, 1e12);
  o.resize_short = options.get<int>("data.resize_short");
  o.quality = options.get<int>("data.quality");
  o.shuffle = options.get<bool>("data.shuffle");
  o.seed = options.seed();
  const JsonObject result =
      pack_images(options.get<std::string>("data.dir"), options.get<std::string>("data.output"), o);
  return {result, result.has("stopped") ? kExitStopped : 0};
}

}  // namespace

Verb pack_verb() {
  OptionTable table("data_tic pack", "Image folders into WebDataset shards, each with an index.");
  table.add_optional<std::string>("data.dir", "DIR", "folder with train and val").required();
  table.add_optional<std::string>("data.output", "-o,--output", "folder of the shards").required();
  table.add("data.shard_size", "--shard-size", "1GB", "size of a shard, e.g. 1GB, 256MB, 20kB");
  table
      .add("data.resize_short", "--resize-short", 0,
           "longest shorter side, pixels; larger images become JPEG of that size; 0: as they are")
      .range(0, 1 << 14);
  table.add("data.quality", "--quality", 95, "of JPEG where images are resized")
      .range(1, 100)
      .only_with("data.resize_short");
  table.add("data.shuffle", "--shuffle", true,
            "the training images in random order, for readers that go through shards");
  table.add_common_without(false, true);
  table.at("run.seed").only_with("data.shuffle");
  return {table, pack};
}

}  // namespace mullion
