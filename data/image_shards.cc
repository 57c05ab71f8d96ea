// The samples of all shards in one list, their classes, and what _info.json says of them.
#include "data/image_shards.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "data/tar.h"
#include "tensor/check.h"
#include "tensor/io/json.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kBlock = 512;

}  // namespace

ImageShards::ImageShards(const fs::path& folder, const std::string& split,
                         const std::vector<std::string>* classes)
    : root_(folder.string()) {
  ShardFiles files = shard_files(folder, split);
  const std::vector<fs::path>& shards = files.shards;
  not_taken_ = std::move(files.not_taken);
  doubts_ = std::move(files.doubts);
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
  find_doubles();
  check_info(folder, split, lengths);
  name_classes(folder, classes);
}

// Pictures that count twice: of one key, class and size. (Keys may begin anew in each shard, so a
// key alone says nothing.)
void ImageShards::find_doubles() {
  std::vector<std::pair<size_t, int64_t>> hashes;
  hashes.reserve(samples_.size());
  for (const Sample& s : samples_)
    hashes.emplace_back(std::hash<std::string>()(concat(s.size, " ", s.label, " ", s.key)),
                        &s - samples_.data());
  std::sort(hashes.begin(), hashes.end());
  int64_t doubles = 0;
  std::string example;
  for (size_t i = 1; i < hashes.size(); ++i) {
    if (hashes[i].first != hashes[i - 1].first || ++doubles > 1) continue;
    example = concat(path(hashes[i - 1].second), " and ", path(hashes[i].second));
  }
  if (doubles > 0)
    doubts_.push_back(concat(
        doubles, doubles == 1 ? " sample comes" : " samples come",
        " a second time, by key, class and size, and will count as often: ", printable(example)));
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
}

void ImageShards::name_classes(const fs::path& folder, const std::vector<std::string>* known) {
  std::vector<std::string> names;
  if (const fs::path info = folder / "_info.json"; fs::exists(info)) {
    const std::string file = printable(info.string());
    const nlohmann::json json = read_json_file(info);
    if (find_field(json, file, "class_names")) names = get_strings(json, file, "class_names");
    std::map<std::string, size_t> places;
    for (size_t c = 0; c < names.size(); ++c) {
      const auto [first, is_new] = places.emplace(names[c], c);
      CHECK_AS(Fault::bad_file, is_new, file, ": class_names: ", printable(names[c]),
               " is the name of class ", first->second, " and of class ", c);
    }
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

std::vector<std::string> ImageShards::file_names() const {
  std::vector<std::string> names;
  for (const std::string& shard : shards_)
    for (std::string& name : shard_file_names(shard)) names.push_back(std::move(name));
  return names;
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
