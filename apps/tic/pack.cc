// Readers make the bytes of samples in parallel; one writer closes shards at their size, in order.
#include "apps/tic/pack.h"

#include <algorithm>
#include <cstdio>
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
#include "data/jpeg_encode.h"
#include "data/order.h"
#include "data/tar.h"
#include "tensor/check.h"
#include "tensor/io/file_ops.h"
#include "tensor/io/json.h"
#include "tensor/io/sha256.h"
#include "tensor/parallel.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kWindow = 64;  // pictures that are in memory at once

struct PackedSample {
  std::vector<uint8_t> bytes;
  std::string extension, json, fault;
};

// A shard in the making, under a name of its own until it is whole.
class ShardWriter {
 public:
  explicit ShardWriter(fs::path shard)
      : shard_(std::move(shard)),
        partial_(shard_.parent_path() / ("." + shard_.filename().string() + ".partial")),
        fd_(create_file(partial_)) {}
  ~ShardWriter() {
    if (fd_ < 0) return;
    try {
      close_file(fd_, partial_);
      remove_file(partial_);
    } catch (const Error&) {
      // What is left over is removed by the next run.
    }
  }
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  uint64_t bytes() const { return index_.bytes; }
  int64_t samples() const { return static_cast<int64_t>(index_.samples.size()); }
  void add(const std::string& key, const PackedSample& sample, int64_t label) {
    const auto size = static_cast<uint32_t>(sample.bytes.size());
    const uint64_t at = member(key + "." + sample.extension, sample.bytes.data(), size);
    const std::string number = std::to_string(label);
    member(key + ".cls", number.data(), number.size());
    member(key + ".json", sample.json.data(), sample.json.size());
    index_.samples.push_back({key, at, size, static_cast<int32_t>(label)});
  }
  void finish() {
    const std::string end(1024, '\0');
    append(end.data(), end.size());
    sync_file(fd_, partial_);
    const int fd = std::exchange(fd_, -1);
    close_file(fd, partial_);
    index_.modified = shard_modified(partial_);  // which a rename leaves as it is
    write_shard_index(shard_, index_);
    rename_over(partial_, shard_);
    sync_folder(shard_.parent_path());
  }

 private:
  uint64_t member(const std::string& name, const void* bytes, size_t size) {
    const std::string header = tar_header(name, size), padding(tar_padding(size), '\0');
    append(header.data(), header.size());
    const uint64_t at = index_.bytes;
    append(bytes, size);
    append(padding.data(), padding.size());
    return at;
  }
  void append(const void* bytes, size_t size) {
    write_file(fd_, partial_, index_.bytes, {static_cast<const std::byte*>(bytes), size});
    index_.bytes += size;
  }

  fs::path shard_, partial_;
  int fd_;
  ShardIndex index_;
};

// The picture's bytes, or a smaller picture, and what is known of it. A picture that cannot be read
// keeps its bytes: whoever reads the shard meets it as in the folder.
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
      sample.bytes = encode_jpeg(small, options.quality);
      sample.extension = "jpg";
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
  int64_t images = 0, unreadable = 0;
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
  int64_t done = 0;
  const auto close = [&] {
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
      writer->add(key, window[i], source.label(order[static_cast<size_t>(done)]));
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
  result.info = {
      {"name", split}, {"num_samples", done}, {"filenames", names}, {"shard_lengths", lengths}};
  return result;
}

// What decides the shards' bytes: written before the first of them, and the same for a run that
// goes on.
nlohmann::json plan_of(const ImageSource& source, const std::string& split,
                       const PackOptions& options) {
  Sha256 hash;
  for (int64_t i = 0; i < source.size(); ++i)
    hash.update(concat(fs::path(source.path(i)).lexically_relative(source.root()).string(), "\n",
                       source.label(i), "\n"));
  return {{"split", split},
          {"images", source.size()},
          {"names_sha256", hash.hex()},
          {"shard_bytes", options.shard_bytes},
          {"resize_short", options.resize_short},
          {"quality", options.quality},
          {"shuffle", options.shuffle},
          {"seed", options.seed}};
}

// What a run that was killed leaves: a shard in the making, or a file that AtomicFile was writing.
bool is_left_over(const std::string& name) {
  const size_t end = std::min(name.rfind(".partial"), name.rfind(".tmp-"));
  if (!name.starts_with(".") || end == std::string::npos) return false;
  const std::string own = name.substr(1, end - 1);
  return own == "_pack.json" || own == "_info.json" || own.ends_with(".tar") ||
         own.ends_with(".tar.idx");
}

// The folder is new, or one in which the same work was begun.
void begin_folder(const fs::path& to, const nlohmann::json& plan) {
  std::vector<fs::path> left_over;
  for (const auto& entry : fs::directory_iterator(to))
    if (is_left_over(entry.path().filename().string())) left_over.push_back(entry.path());
  for (const fs::path& path : left_over) remove_file(path);
  const fs::path file = to / "_pack.json";
  if (fs::exists(file)) {
    CHECK_AS(Fault::usage, read_json_file(file) == plan, printable(to.string()),
             ": was packed from other images or with other options (_pack.json); remove it, or "
             "choose another folder");
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
  std::vector<std::pair<std::string, std::shared_ptr<const ImageFolder>>> splits = {
      {"train", train}};
  const std::string val = validation_split(from, "");
  refuse_own_input(from, {"train", val.empty() ? "train" : val}, to);
  if (!val.empty())
    splits.emplace_back(val, std::make_shared<ImageFolder>((from / val).string(), folder));
  nlohmann::json plan = nlohmann::json::array(), infos = nlohmann::json::object();
  for (const auto& [name, source] : splits) {
    tell_of(*source);
    plan.push_back(plan_of(*source, name, options));
  }
  const OutputLock lock(to);
  begin_folder(to, plan);
  JsonObject result;
  int64_t shards = 0, images = 0, unreadable = 0;
  for (const auto& [name, source] : splits) {
    const PackedSplit packed = pack_split(*source, name, to, options);
    if (!packed.complete)
      return JsonObject().set("stopped", stop_reason()).set("images", images + packed.images);
    infos[name] = packed.info;
    shards += static_cast<int64_t>(packed.info["filenames"].size());
    images += packed.images;
    unreadable += packed.unreadable;
  }
  if (const auto names = class_names_beside(from)) {
    fs::copy_file(*names, to / names->filename(), fs::copy_options::overwrite_existing);
    log_info("names of the classes: ", printable(names->string()), " goes along");
  }
  // Last: a folder without it is not finished.
  write_json_file(to / "_info.json", {{"name", printable(from.filename().string())},
                                      {"splits", infos},
                                      {"class_names", train->classes()}});
  log_info("wrote ", shards, " shards of ", images, " images to ", printable(to.string()));
  return result.set("output", to.string())
      .set("shards", shards)
      .set("images", images)
      .set("unreadable", unreadable);
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
