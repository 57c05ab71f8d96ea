// The files of one checkpoint: each is written, synced and hashed.
#include <algorithm>

#include "apps/run/checkpoint_manifest.h"
#include "apps/run/run_checkpoint.h"
#include "tensor/check.h"
#include "tensor/io/file_ops.h"
#include "tensor/io/sha256.h"

namespace mullion {

namespace fs = std::filesystem;

fs::path CheckpointWriter::place(const std::string& name) {
  check_file_name(name, folder_.string());
  CHECK(!files_.contains(name), folder_.string(), ": ", name, " is written twice");
  const size_t slash = name.find('/');
  if (slash != std::string::npos && folders_.insert(name.substr(0, slash)).second) {
    make_folder(folder_ / name.substr(0, slash));
  }
  return folder_ / name;
}

void CheckpointWriter::record(const std::string& name) {
  const fs::path path = folder_ / name;
  CHECK(fs::is_regular_file(fs::symlink_status(path)), path.string(), ": was not written");
  sync_path(path);
  files_[name] = {fs::file_size(path), sha256_file(path)};
}

void CheckpointWriter::add_file(const std::string& name, std::string_view bytes) {
  const fs::path path = place(name);
  write_new_file(path, bytes);
  files_[name] = {bytes.size(), sha256_hex(bytes)};
}

void CheckpointWriter::add_file(const std::string& name,
                                const std::function<void(const fs::path&)>& write) {
  write(place(name));
  record(name);
}

void CheckpointWriter::add_files(
    const std::function<std::vector<std::string>(const fs::path&)>& write) {
  for (const std::string& name : write(folder_)) {
    place(name);
    record(name);
  }
}

void CheckpointWriter::add_folder(const std::string& name,
                                  const std::function<void(const fs::path&)>& write) {
  check_file_name(name, folder_.string());
  if (folders_.insert(name).second) make_folder(folder_ / name);
  write(folder_ / name);
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder_ / name)) {
    found.push_back(name + "/" + entry.path().filename().string());
  }
  std::sort(found.begin(), found.end());
  for (const std::string& file : found) {
    check_file_name(file, folder_.string());
    CHECK(fs::is_regular_file(fs::symlink_status(folder_ / file)), (folder_ / file).string(),
          ": only files may be in a checkpoint's folder");
    if (!files_.contains(file)) record(file);
  }
}

void CheckpointWriter::sync_folders() const {
  for (const std::string& name : folders_) sync_folder(folder_ / name);
  sync_folder(folder_);
}

}  // namespace mullion
