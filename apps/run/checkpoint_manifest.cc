// COMPLETE: JSON with sorted keys, indented by two. "check" is the SHA-256 of the same text with
// "check" empty, and a reader insists on exactly this text, so that no bit of it can change unseen.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/program/command_text.h"
#include "apps/program/log.h"
#include "apps/run/checkpoint_manifest.h"
#include "apps/run/run_checkpoint.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/json.h"
#include "tensor/io/sha256.h"
#include "tensor/words.h"

namespace mullion {

namespace {
namespace fs = std::filesystem;
using nlohmann::json;
constexpr uint64_t kFormat = 1;
constexpr uint64_t kMaxInteger = INT64_MAX;

std::string text_of(json manifest, const std::string& check) {
  manifest["check"] = check;
  return manifest.dump(2) + "\n";
}

std::string short_hash(const std::string& hash) { return hash.substr(0, 12) + "..."; }

void verify_file(const fs::path& path, const StoredFile& stored,
                 uint64_t most_hashed = UINT64_MAX) {
  // A link could be swapped for another file, a device would never end.
  CHECK_AS(Fault::bad_file, fs::is_regular_file(fs::symlink_status(path)), path.string(),
           ": missing, or not a regular file");
  const uint64_t bytes = fs::file_size(path);
  CHECK_AS(Fault::bad_file, bytes == stored.bytes, path.string(), ": ", bytes,
           " bytes, COMPLETE says ", stored.bytes);
  if (bytes >= most_hashed) return;
  const std::string hash = sha256_file(path);
  CHECK_AS(Fault::bad_file, hash == stored.sha256, path.string(), ": SHA-256 is ", short_hash(hash),
           ", COMPLETE says ", short_hash(stored.sha256));
}

// Whether a run's folder has it under a name that only whole checkpoints keep.
bool must_be_whole(const fs::path& folder) {
  const std::string name = folder.filename().string();
  const auto begins = [&](const char* start) { return name.starts_with(start); };
  return (begins("checkpoint-") || begins(".tmp-") || begins(".trash-")) &&
         fs::exists(folder.parent_path() / "RUN.json");
}

// The files of `names` in a checkpoint, or of all that begin with `part`.
void verify_loaded(const CheckpointInfo& info, const std::string& part,
                   const std::vector<std::string>& names) {
  constexpr uint64_t kMostHashed = uint64_t{1} << 30;
  for (const std::string& name : names)
    CHECK_AS(Fault::bad_file, info.files.contains(part + name), info.path(part + name).string(),
             ": COMPLETE does not name it");
  for (const auto& [name, file] : info.files)
    if (name.starts_with(part) &&
        (names.empty() ||
         std::find(names.begin(), names.end(), name.substr(part.size())) != names.end()))
      verify_file(info.path(name), file, kMostHashed);
}
}  // namespace

void check_file_name(const std::string& name, const std::string& where) {
  const size_t slash = name.find('/');
  const auto plain = [](std::string_view part) {
    return !part.empty() && part.size() <= 255 && part[0] != '.' &&
           part.find('/') == std::string_view::npos && part.find('\0') == std::string_view::npos;
  };
  const std::string_view view = name;
  const bool ok = slash == std::string::npos
                      ? plain(view)
                      : plain(view.substr(0, slash)) && plain(view.substr(slash + 1));
  CHECK_AS(Fault::bad_file, ok && name != kManifestName, where, ": \"", name,
           "\" is no name of a checkpoint's file");
}

std::string manifest_text(const CheckpointInfo& info) {
  json files = json::object(), identity = json::array();
  for (const auto& [name, file] : info.files) {
    files[name] = {{"bytes", file.bytes}, {"sha256", file.sha256}};
  }
  for (const auto& [name, value] : info.identity) identity.push_back({name, value});
  const json manifest = {{"format", kFormat},
                         {"created_by", "mullion " MULLION_VERSION},
                         {"run_id", info.run_id},
                         {"step", info.step},
                         {"generation", info.generation},
                         {"previous", info.previous},
                         {"identity", identity},
                         {"files", files}};
  return text_of(manifest, sha256_hex(text_of(manifest, "")));
}

CheckpointInfo read_manifest(const fs::path& folder) {
  const fs::path path = folder / kManifestName;
  const std::string where = path.string();
  CHECK_AS(Fault::bad_file, fs::is_regular_file(fs::symlink_status(path)), where, ": missing");
  const std::string text = read_whole_file(path, 16 << 20);
  const json manifest = parse_json(text, where, {.max_bytes = 16 << 20, .max_depth = 4});
  const uint64_t format = get_uint(manifest, where, "format", kMaxInteger);
  CHECK_AS(Fault::bad_file, format == kFormat, where, ": format ", format, ", this program reads ",
           kFormat, format > kFormat ? "; a newer version wrote it" : "");
  const std::string check = get_string(manifest, where, "check");
  CHECK_AS(Fault::bad_file, text == text_of(manifest, check), where, ": not as it was written");
  CHECK_AS(Fault::bad_file, check == sha256_hex(text_of(manifest, "")), where,
           ": its own hash does not fit: damaged");

  CheckpointInfo info;
  info.folder = folder;
  info.step = static_cast<int64_t>(get_uint(manifest, where, "step", kMaxInteger));
  info.generation = static_cast<int64_t>(get_uint(manifest, where, "generation", kMaxInteger));
  info.previous = static_cast<int64_t>(get_uint(manifest, where, "previous", kMaxInteger));
  info.run_id = get_string(manifest, where, "run_id");
  const json* files = find_field(manifest, where, "files");
  CHECK_AS(Fault::bad_file, files != nullptr && files->is_object(), where, ": no files");
  for (const auto& [name, file] : files->items()) {
    check_file_name(name, where);
    info.files[name] = {get_uint(file, where, "bytes", kMaxInteger),
                        get_string(file, where, "sha256")};
  }
  const json* identity = find_field(manifest, where, "identity");
  CHECK_AS(Fault::bad_file, identity != nullptr && identity->is_array(), where, ": no identity");
  for (const json& pair : *identity) {
    CHECK_AS(Fault::bad_file, pair.is_array() && pair.size() == 2, where, ": identity is no pair");
    info.identity.emplace_back(as_string(pair[0], where, "identity"),
                               as_string(pair[1], where, "identity"));
  }
  return info;
}

CheckpointInfo verify_checkpoint(const fs::path& folder) {
  CheckpointInfo info = read_manifest(folder);
  for (const auto& [name, file] : info.files) verify_file(folder / name, file);
  return info;
}

void require_whole(const fs::path& folder, const std::vector<std::string>& names) {
  if (!fs::is_directory(folder)) return;
  const fs::path here = fs::canonical(folder);  // RUN/last is a link
  const std::pair<fs::path, std::string> places[] = {
      {here, ""}, {here.parent_path(), here.filename().string() + "/"}};
  for (const auto& [place, part] : places) {
    CHECK_AS(Fault::bad_file, fs::exists(place / kManifestName) || !must_be_whole(place),
             place.string(), ": has no COMPLETE, so the checkpoint is not whole");
    if (!fs::exists(place / kManifestName)) continue;
    try {
      return verify_loaded(read_manifest(place), part, names);
    } catch (const Error& error) {
      throw Error(error.what(), error.fault(),
                  "if it was changed on purpose: a copy of the folder outside of the run, without "
                  "COMPLETE, is taken as it is");
    }
  }
}

std::string CheckpointInfo::read(const std::string& name) const {
  const auto file = files.find(name);
  CHECK_AS(Fault::bad_file, file != files.end(), folder.string(), ": has no ", name);
  const std::string bytes = read_whole_file(path(name), file->second.bytes);
  CHECK_AS(Fault::bad_file, bytes.size() == file->second.bytes, path(name).string(), ": ",
           bytes.size(), " bytes, COMPLETE says ", file->second.bytes);
  return bytes;
}

std::vector<std::string> check_identity(const CheckpointInfo& stored, const Identity& now,
                                        const IdentityRules& rules) {
  std::map<std::string, std::pair<std::string, std::string>> values;
  for (const auto& [name, value] : stored.identity) values[name].first = value;
  for (const auto& [name, value] : now) values[name].second = value;
  for (const std::string& name : rules.allowed) values.erase(name);
  const auto shown = [](const std::string& value) { return value.empty() ? "nothing" : value; };
  std::vector<std::string> notes;
  const auto tell = [&](const std::string& name, const char* what) {
    const auto& [before, after] = values[name];
    if (before != after)
      notes.push_back(concat(name, " is ", shown(after), ", was ", shown(before), ": ", what));
    values.erase(name);
  };
  for (const std::string& name : rules.unset)
    if (const auto field = values.find(name); field != values.end() && field->second.first.empty())
      values.erase(field);
  for (const std::string& name : rules.newer) {
    const auto field = values.find(name);
    if (field == values.end() || !field->second.first.empty()) continue;
    notes.push_back(concat("the checkpoint is older than the field ", name,
                           ": whether it is the same is not known"));
    values.erase(field);
  }
  for (const std::string& name : rules.logged) {
    // A checkpoint of before there was such an option says nothing of it.
    if (values[name].first.empty() || values[name].second.empty()) values.erase(name);
    tell(name, "the results are the same");
  }
  for (const std::string& name : rules.judged)
    tell(name, "earlier evaluations, and so what is best, are of other data");
  std::string differing;
  std::vector<std::string> names;
  for (const auto& [name, pair] : values) {
    if (pair.first == pair.second) continue;
    differing += "\n    " + name + ": " + shown(pair.first) + " in the checkpoint, " +
                 shown(pair.second) + " now";
    names.push_back(name);
  }
  if (differing.empty()) return notes;
  throw Error(
      stored.folder.string() + ": belongs to a run with other settings:" + differing, Fault::usage,
      "the same settings as before, or --allow-mismatch " + quoted_for_shell(joined(names, ",")));
}

}  // namespace mullion
