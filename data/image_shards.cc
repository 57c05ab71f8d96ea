// The index beside a shard is used where it is of that shard, else made by reading it through.
#include "data/image_shards.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "data/tar.h"
#include "data/utf8.h"
#include "tensor/check.h"
#include "tensor/io/json.h"
#include "tensor/words.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMostPicture = uint64_t{1} << 28, kMostClasses = 1 << 20;
constexpr uint64_t kBlock = 512;
constexpr JsonLimits kIndexLimits{size_t{1} << 30, 8};

// A name as WebDataset takes it apart: the key ends at the first dot of the last part.
struct Parts {
  std::string key, extension;
};
Parts parts_of(const std::string& name) {
  const size_t slash = name.rfind('/'), from = slash == std::string::npos ? 0 : slash + 1;
  const size_t dot = name.find('.', from);
  if (dot == std::string::npos) return {name, ""};
  return {name.substr(0, dot), ascii_lower(name.substr(dot + 1))};
}

bool is_picture(const std::string& extension) {
  return extension == "jpg" || extension == "jpeg" || extension == "png";
}

int32_t label_of(const std::string& text, const std::string& where) {
  const auto label = number_in<int32_t>(without_last_spaces(text));
  CHECK_AS(Fault::bad_file, label && *label >= 0 && *label < static_cast<int32_t>(kMostClasses),
           where, ".cls: \"", printable(text.substr(0, 40)), "\" is no class number");
  return *label;
}

std::vector<std::string> tars_in(const fs::path& folder, std::vector<std::string>& compressed) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(".")) continue;
    if (name.ends_with(".tar")) names.push_back(name);
    if (name.ends_with(".tar.gz") || name.ends_with(".tgz")) compressed.push_back(name);
  }
  std::sort(names.begin(), names.end());
  std::sort(compressed.begin(), compressed.end());
  return names;
}

bool is_of_split(const std::string& name, const std::string& split) {
  return name.starts_with(split + "-") || name == split + ".tar" ||
         name.find("-" + split + "-") != std::string::npos;
}

}  // namespace

fs::path index_path(const fs::path& shard) {
  return shard.parent_path() / (shard.filename().string() + ".idx");
}

int64_t shard_modified(const fs::path& shard) {
  struct stat s {};
  CHECK_AS(Fault::bad_file, ::stat(shard.c_str(), &s) == 0, printable(shard.string()), ": ",
           std::strerror(errno));
  return int64_t{s.st_mtim.tv_sec} * 1'000'000'000 + s.st_mtim.tv_nsec;
}

ShardIndex index_shard(const fs::path& shard) {
  // Before the reading: what is written meanwhile makes the index an old one.
  const int64_t modified = shard_modified(shard);
  const auto source = open_file(shard);
  const std::string name = printable(shard.string());
  ShardIndex index{source->size(), modified, {}};
  TarReader tar(*source);
  TarMember member;
  std::set<std::string> keys;
  ShardSample sample;
  bool has_label = false;
  const auto finish = [&] {
    if (sample.key.empty()) return;
    const std::string where = name + "/" + printable(sample.key);
    CHECK_AS(Fault::bad_file, sample.offset > 0, where, ": no picture (.jpg, .jpeg or .png)");
    CHECK_AS(Fault::bad_file, has_label, where, ": no class (.cls)");
    index.samples.push_back(sample);
  };
  while (tar.next(member)) {
    const Parts parts = parts_of(member.name);
    const std::string where = name + "/" + printable(parts.key);
    if (parts.key != sample.key) {
      finish();
      CHECK_AS(Fault::bad_file, keys.insert(parts.key).second, where,
               ": the files of a sample do not stand together, or two samples have one key");
      sample = {parts.key, 0, 0, 0};
      has_label = false;
    }
    if (is_picture(parts.extension)) {
      CHECK_AS(Fault::bad_file, sample.offset == 0, where, ": two pictures");
      CHECK_AS(Fault::bad_file, member.size <= kMostPicture, where, ": a picture of ", member.size,
               " bytes, more than the limit of ", kMostPicture);
      sample.offset = member.offset;
      sample.size = static_cast<uint32_t>(member.size);
    } else if (parts.extension == "cls") {
      CHECK_AS(Fault::bad_file, !has_label && member.size <= 64, where, ": two classes, or one of ",
               member.size, " bytes");
      std::string text(member.size, '\0');
      source->read_at(member.offset, std::as_writable_bytes(std::span(text)));
      sample.label = label_of(text, where);
      has_label = true;
    }
  }
  finish();
  CHECK_AS(Fault::bad_file, !index.samples.empty(), name, ": no samples");
  return index;
}

void write_shard_index(const fs::path& shard, const ShardIndex& index) {
  std::string text = concat("{\"shard_bytes\": ", index.bytes,
                            ", \"shard_modified\": ", index.modified, ", \"samples\": [\n");
  for (const ShardSample& s : index.samples)
    text += concat(&s == index.samples.data() ? "" : ",\n", "[", nlohmann::json(s.key).dump(), ", ",
                   s.offset, ", ", s.size, ", ", s.label, "]");
  write_whole_file(index_path(shard), text + "\n]}\n");
}

ShardIndex open_shard_index(const fs::path& shard, bool* was_old) {
  std::error_code error;
  const uint64_t bytes = fs::file_size(shard, error);
  CHECK_AS(Fault::bad_file, !error, printable(shard.string()), ": ", error.message());
  const fs::path path = index_path(shard);
  if (fs::exists(path)) {
    const std::string file = printable(path.string());
    const nlohmann::json json = read_json_file(path, kIndexLimits);
    ShardIndex index{get_uint(json, file, "shard_bytes", UINT64_MAX >> 1), -1, {}};
    if (find_field(json, file, "shard_modified"))  // indexes were written without it
      index.modified =
          static_cast<int64_t>(get_uint(json, file, "shard_modified", UINT64_MAX >> 1));
    const nlohmann::json* samples = find_field(json, file, "samples");
    CHECK_AS(Fault::bad_file, samples != nullptr && samples->is_array(), file, ": no list samples");
    for (const nlohmann::json& s : *samples) {
      CHECK_AS(Fault::bad_file, s.is_array() && s.size() == 4, file,
               ": a sample that is no list of 4");
      const uint64_t offset = as_uint(s[1], file, "offset", UINT64_MAX >> 1);
      const uint64_t size = as_uint(s[2], file, "size", kMostPicture);
      CHECK_AS(Fault::bad_file,
               offset >= kBlock && offset <= index.bytes && size <= index.bytes - offset, file,
               ": ", offset, " + ", size, " lies outside of the shard");
      index.samples.push_back(
          {as_string(s[0], file, "key"), offset, static_cast<uint32_t>(size),
           static_cast<int32_t>(as_uint(s[3], file, "label", kMostClasses - 1))});
    }
    if (index.bytes == bytes && index.modified == shard_modified(shard) && !index.samples.empty())
      return index;
    if (was_old) *was_old = true;
  }
  ShardIndex index = index_shard(shard);
  try {
    write_shard_index(shard, index);
  } catch (const Error&) {
    // A folder that cannot be written: the next run walks the shard again.
  }
  return index;
}

std::vector<fs::path> find_shards(const fs::path& folder, const std::string& split) {
  std::vector<fs::path> shards;
  if (const fs::path info = folder / "_info.json"; fs::exists(info)) {
    const std::string file = printable(info.string());
    const nlohmann::json json = read_json_file(info);
    const nlohmann::json* splits = find_field(json, file, "splits");
    const nlohmann::json* own = splits ? find_field(*splits, file, split) : nullptr;
    if (own == nullptr) return {};
    for (const std::string& name : get_strings(*own, file, "filenames")) {
      CHECK_AS(Fault::bad_file, fs::path(name).filename() == name && name.ends_with(".tar"), file,
               ": filenames: ", printable(name), " is no name of a .tar beside it");
      shards.push_back(folder / name);
    }
    return shards;
  }
  std::vector<std::string> compressed;
  for (const std::string& name : tars_in(folder, compressed))
    if (split.empty() || is_of_split(name, split)) shards.push_back(folder / name);
  if (shards.empty())
    for (const std::string& name : tars_in(folder / split, compressed))
      shards.push_back(folder / split / name);
  CHECK_AS(Fault::bad_file, !shards.empty() || compressed.empty(), printable(folder.string()), ": ",
           compressed.empty() ? "" : printable(compressed.front()),
           ": compressed shards cannot be read at any place: unpack them (gunzip)");
  return shards;
}

ImageShards::ImageShards(const fs::path& folder, const std::string& split,
                         const std::vector<std::string>* classes)
    : root_(folder.string()) {
  const std::vector<fs::path> shards = find_shards(folder, split);
  CHECK_AS(Fault::bad_file, !shards.empty(), printable(root_), ": no shards of the split ", split,
           ", e.g. ", split, "-000000.tar");
  std::vector<std::string> old;
  std::vector<uint64_t> lengths;
  for (const fs::path& shard : shards) {
    const auto number = static_cast<int32_t>(shards_.size());
    shards_.push_back(shard.string());
    bool was_old = false;
    ShardIndex index = open_shard_index(shard, &was_old);
    if (was_old) old.push_back(printable(shard.filename().string()));
    lengths.push_back(index.samples.size());
    for (ShardSample& s : index.samples)
      samples_.push_back({std::move(s.key), s.offset, s.size, s.label, number});
  }
  if (!old.empty())
    doubts_.push_back(concat("the indexes (.idx) of ", old.size(),
                             " shards were made of other files (another size or time), and are "
                             "made anew: ",
                             listing(old)));
  check_info(folder, split, lengths);
  name_classes(folder, classes);
}

// What _info.json says of the split, against what its shards hold.
void ImageShards::check_info(const fs::path& folder, const std::string& split,
                             const std::vector<uint64_t>& lengths) {
  const fs::path info = folder / "_info.json";
  if (!fs::exists(info)) return;
  const std::string file = printable(info.string());
  const nlohmann::json json = read_json_file(info);
  const nlohmann::json& splits = *find_field(json, file, "splits");
  const nlohmann::json& own = *find_field(splits, file, split);
  if (find_field(own, file, "num_samples")) {
    const uint64_t said = get_uint(own, file, "num_samples", UINT64_MAX >> 1);
    CHECK_AS(Fault::bad_file, said == samples_.size(), file, ": splits.", split, ".num_samples is ",
             said, ", the shards have ", samples_.size());
  }
  if (const nlohmann::json* said = find_field(own, file, "shard_lengths")) {
    CHECK_AS(Fault::bad_file, said->is_array() && said->size() == lengths.size(), file, ": splits.",
             split, ".shard_lengths is no list of ", lengths.size(), " numbers");
    for (size_t i = 0; i < lengths.size(); ++i)
      CHECK_AS(Fault::bad_file,
               as_uint((*said)[i], file, "shard_lengths", UINT64_MAX >> 1) == lengths[i], file,
               ": splits.", split, ".shard_lengths: ", (*said)[i].dump(), " for ",
               printable(fs::path(shards_[i]).filename().string()), ", which has ", lengths[i]);
  }
  std::set<std::string> listed;
  for (const auto& [name, one] : splits.items())
    for (const std::string& shard : get_strings(one, file, "filenames")) listed.insert(shard);
  std::vector<std::string> compressed;
  for (const std::string& name : tars_in(folder, compressed)) {
    if (listed.count(name) > 0) continue;
    if (not_taken_.empty()) not_taken_.push_back({kUnlistedShards, 0, name, true});
    ++not_taken_[0].count;
  }
}

void ImageShards::name_classes(const fs::path& folder, const std::vector<std::string>* known) {
  std::vector<std::string> names;
  if (const fs::path info = folder / "_info.json"; fs::exists(info)) {
    const std::string file = printable(info.string());
    const nlohmann::json json = read_json_file(info);
    if (find_field(json, file, "class_names")) names = get_strings(json, file, "class_names");
  }
  int32_t top = 0;
  for (const Sample& s : samples_) top = std::max(top, s.label);
  const std::string root = printable(root_);
  const bool named = !names.empty();
  if (!named && known) {
    doubts_.push_back(
        "the shards do not name their classes; numbers are taken as places among "
        "the model's classes");
    names = *known;
  }
  if (names.empty())
    for (int32_t c = 0; c <= top; ++c) names.push_back(std::to_string(c));
  CHECK_AS(Fault::bad_file, top < static_cast<int32_t>(names.size()), root, ": class ", top, " of ",
           names.size(), " classes: a sample of a class that is not there");
  classes_ = known ? *known : names;
  std::vector<int32_t> place(names.size());
  std::vector<bool> seen(classes_.size());
  std::set<std::string> unknown;
  for (size_t c = 0; c < names.size(); ++c) {
    const auto found = std::find(classes_.begin(), classes_.end(), names[c]);
    place[c] = static_cast<int32_t>(found - classes_.begin());
  }
  for (Sample& s : samples_) {
    const auto own = static_cast<size_t>(s.label);
    s.label = place[own];
    if (static_cast<size_t>(s.label) == classes_.size())
      unknown.insert(names[own]);
    else
      seen[static_cast<size_t>(s.label)] = true;
  }
  CHECK_AS(Fault::bad_file, unknown.empty(), root, ": ", unknown.size(),
           " classes unknown to the training set: ", listing({unknown.begin(), unknown.end()}));
  for (size_t c = 0; c < classes_.size(); ++c)
    if (!seen[c]) absent_.push_back(classes_[c]);
  CHECK_AS(Fault::bad_file, known || absent_.empty(), root, ": ", absent_.size(),
           " classes without a picture: ", listing(absent_));
}

std::string ImageShards::describe() const {
  return concat(shards_.size(), shards_.size() == 1 ? " shard" : " shards");
}

std::string ImageShards::path(int64_t index) const {
  const Sample& s = at(index);
  return shards_[static_cast<size_t>(s.shard)] + "/" + s.key;
}

// The picture and the header before it in one read: an index that is not the shard's own is found
// out, even where the shard's size is the same.
void ImageShards::read(int64_t index, std::vector<uint8_t>& out) const {
  const Sample& s = at(index);
  const std::string name = printable(path(index));
  const int fd = ::open(shards_[static_cast<size_t>(s.shard)].c_str(), O_RDONLY | O_CLOEXEC);
  CHECK_AS(Fault::bad_file, fd >= 0, name, ": ", std::strerror(errno));
  out.resize(kBlock + s.size);
  size_t done = 0;
  int error = 0;
  while (done < out.size()) {
    const ssize_t n = ::pread(fd, out.data() + done, out.size() - done,
                              static_cast<off_t>(s.offset - kBlock + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) error = errno;
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  ::close(fd);
  CHECK_AS(Fault::bad_file, error == 0, name, ": ", std::strerror(error));
  CHECK_AS(Fault::bad_file, done == out.size(), name,
           ": the shard was cut after its index was made");
  CHECK_AS(Fault::bad_file, is_tar_header(reinterpret_cast<const char*>(out.data()), s.size), name,
           ": the shard's index (.idx) is that of another shard: remove it");
  CHECK_AS(Fault::bad_file, s.size > 0, name, ": empty file");
  out.erase(out.begin(), out.begin() + kBlock);
}

}  // namespace mullion
