// COMPLETE: JSON with sorted keys, indented by two. "check" is the SHA-256 of the same text with
// "check" empty, and a reader insists on exactly this text, so that no bit of it can change unseen.
#include <algorithm>
#include <fstream>
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

// A device would never end. A run that goes on writes no links, and one could be swapped for
// another file; who loads a model may keep its files elsewhere, as the hub's cache does.
enum class Links : uint8_t { refused, followed };
void require_regular(const fs::path& path, Links links) {
  std::error_code missing;
  const fs::file_status status =
      links == Links::followed ? fs::status(path, missing) : fs::symlink_status(path, missing);
  CHECK_AS(Fault::bad_file, fs::is_regular_file(status), path.string(),
           ": missing, or not a regular file");
}

void verify_file(const fs::path& path, const StoredFile& stored, Links links,
                 uint64_t most_hashed = UINT64_MAX) {
  require_regular(path, links);
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

// Whether a file of that name begins as a manifest does: others give the name to markers of theirs.
bool is_manifest(const fs::path& path) {
  constexpr std::string_view kBegin = "{\n  \"check\"";
  std::error_code missing;
  if (!fs::is_regular_file(path, missing)) return false;
  std::string begin(kBegin.size(), '\0');
  std::ifstream(path, std::ios::binary).read(begin.data(), std::ssize(begin));
  return begin == kBegin;
}

// The files of `names` below `part` of a checkpoint, or all that are there; a model card, which is
// for people, may be another one. False where the manifest has none below that part.
bool verify_loaded(const CheckpointInfo& info, const std::string& part,
                   const std::vector<std::string>& names) {
  constexpr uint64_t kMostHashed = uint64_t{1} << 30;
  const auto is_below = [&](const auto& file) { return file.first.starts_with(part); };
  if (std::none_of(info.files.begin(), info.files.end(), is_below)) return false;
  for (const std::string& name : names)
    CHECK_AS(Fault::bad_file, info.files.contains(part + name), info.path(part + name).string(),
             ": COMPLETE does not name it");
  for (const auto& [name, file] : info.files) {
    if (!name.starts_with(part)) continue;
    const bool is_loaded = names.empty() ? !name.ends_with(".md")
                                         : std::find(names.begin(), names.end(),
                                                     name.substr(part.size())) != names.end();
    if (is_loaded) verify_file(info.path(name), file, Links::followed, kMostHashed);
  }
  return true;
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

namespace {
CheckpointInfo manifest_in(const fs::path& folder, Links links) {
  const fs::path path = folder / kManifestName;
  const std::string where = path.string();
  require_regular(path, links);
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
}  // namespace

CheckpointInfo read_manifest(const fs::path& folder) { return manifest_in(folder, Links::refused); }

CheckpointInfo verify_checkpoint(const fs::path& folder) {
  CheckpointInfo info = read_manifest(folder);
  for (const auto& [name, file] : info.files) verify_file(folder / name, file, Links::refused);
  return info;
}

void require_whole(const fs::path& folder, const std::vector<std::string>& names) {
  if (!fs::is_directory(folder)) return;
  const fs::path here = fs::canonical(folder);  // RUN/last is a link
  const std::pair<fs::path, std::string> places[] = {
      {here, ""}, {here.parent_path(), here.filename().string() + "/"}};
  for (const auto& [place, part] : places) {
    const fs::path manifest = place / kManifestName;
    if (!must_be_whole(place) && !is_manifest(manifest)) {
      if (part.empty() && fs::exists(manifest))
        log_warning(manifest.string(),
                    ": is no manifest of a checkpoint; nothing is checked by it");
      continue;
    }
    CHECK_AS(Fault::bad_file, fs::exists(manifest), place.string(),
             ": has no COMPLETE, so the checkpoint is not whole");
    try {
      if (verify_loaded(manifest_in(place, Links::followed), part, names)) return;
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
