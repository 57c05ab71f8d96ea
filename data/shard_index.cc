// The index beside a shard is used where it is of that shard, else made by reading it through.
#include "data/shard_index.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <span>

#include "data/decode.h"
#include "data/tar.h"
#include "data/utf8.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/json.h"
#include "tensor/words.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMostPicture = uint64_t{1} << 28, kMostClasses = 1 << 20;
constexpr uint64_t kBlock = 512, kMostJson = 1 << 20;
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
    CHECK_AS(Fault::bad_file, sample.offset > 0, where,
             ": no picture (.jpg, .jpeg or .png; a key ends at the first dot of a name, so that "
             "KEY.1.jpg is no picture of KEY)");
    CHECK_AS(Fault::bad_file, has_label, where, ": no class (.cls)");
    index.samples.push_back(sample);
  };
  while (tar.next(member)) {
    const Parts parts = parts_of(member.name);
    const std::string where = name + "/" + printable(parts.key);
    if (parts.key.empty() || parts.key.back() == '/') {  // as hidden files have
      CHECK_AS(Fault::bad_file, !is_picture(parts.extension) && parts.extension != "cls", name, "/",
               printable(member.name), ": a file of a sample without a key before the first dot");
      continue;
    }
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

std::string index_fault(const fs::path& shard) {
  const ShardIndex said = open_shard_index(shard), found = index_shard(shard);
  const auto shown = [](const ShardIndex& index, size_t i) {
    if (i >= index.samples.size()) return std::string("nothing");
    const ShardSample& s = index.samples[i];
    return concat(printable(s.key), " (class ", s.label, ", ", s.size, " bytes at ", s.offset, ")");
  };
  for (size_t i = 0; i < std::max(said.samples.size(), found.samples.size()); ++i)
    if (shown(said, i) != shown(found, i))
      return concat(printable(index_path(shard).string()), ": sample ", i, " is ", shown(said, i),
                    ", in the shard ", shown(found, i), ": remove the index");
  return "";
}

std::vector<std::string> shard_file_names(const fs::path& shard) {
  const auto source = open_file(shard);
  TarReader tar(*source);
  TarMember member;
  std::map<std::string, std::string> files;
  while (tar.next(member)) {
    const Parts parts = parts_of(member.name);
    if (parts.extension != "json" || member.size > kMostJson) continue;
    std::string text(member.size, '\0');
    source->read_at(member.offset, std::as_writable_bytes(std::span(text)));
    const std::string where = printable(shard.string() + "/" + member.name);
    const nlohmann::json json = parse_json(text, where);
    if (!json.is_object()) continue;
    for (const char* field : {"filename", "file"})
      if (find_field(json, where, field)) files[parts.key] = get_string(json, where, field);
  }
  std::vector<std::string> names;
  for (const ShardSample& s : open_shard_index(shard).samples) {
    const auto file = files.find(s.key);
    names.push_back(file == files.end() ? s.key : file->second);
  }
  return names;
}

}  // namespace mullion
