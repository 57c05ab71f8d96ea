// Saving, recovering and removing checkpoints. The order of operations is the protocol; each
// comment says what its step protects from.
#include "apps/run/run_checkpoint.h"

#include <algorithm>
#include <cstdio>

#include "apps/program/log.h"
#include "apps/run/checkpoint_manifest.h"
#include "tensor/check.h"
#include "tensor/io/file_ops.h"

namespace mullion {

namespace {
namespace fs = std::filesystem;
constexpr char kPrefix[] = "checkpoint-";

std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder)) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());  // one order on every file system
  return paths;
}

bool is_folder(const fs::path& path) { return fs::is_directory(fs::symlink_status(path)); }

// The step in "checkpoint-000500" and "checkpoint-000500-g0007"; -1 for other names.
int64_t step_in_name(const fs::path& path) {
  long long step = -1;
  const std::string name = path.filename().string();
  return std::sscanf(name.c_str(), "checkpoint-%18lld", &step) == 1 ? step : -1;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }
}  // namespace

std::string checkpoint_name(int64_t step) {
  char name[48];
  std::snprintf(name, sizeof name, "checkpoint-%06lld", static_cast<long long>(step));
  return name;
}

std::optional<CheckpointInfo> newest_manifest(const fs::path& run) {
  std::optional<CheckpointInfo> newest;
  if (!fs::is_directory(run)) return newest;
  for (const fs::path& path : entries(run)) {
    if (!path.filename().string().starts_with(kPrefix) || !is_folder(path)) continue;
    try {
      CheckpointInfo info = read_manifest(path);
      if (!newest || info.generation > newest->generation) newest = std::move(info);
    } catch (const Error&) {  // is no checkpoint
    }
  }
  return newest;
}

CheckpointStore::CheckpointStore(fs::path run, std::string run_id, CheckpointPolicy policy,
                                 std::function<void()> fence)
    : run_(std::move(run)), run_id_(std::move(run_id)), policy_(policy), fence_(std::move(fence)) {
  for (const CheckpointInfo& info : list(false)) {
    generation_ = std::max(generation_, info.generation);
  }
}

// Checkpoints of this run whose manifest is whole, newest first.
std::vector<CheckpointInfo> CheckpointStore::list(bool warn) const {
  std::vector<CheckpointInfo> found;
  for (const fs::path& path : entries(run_)) {
    if (!path.filename().string().starts_with(kPrefix) || !is_folder(path)) continue;
    try {
      CheckpointInfo info = read_manifest(path);
      if (info.run_id == run_id_) {
        found.push_back(std::move(info));
      } else if (warn) {
        log_warning(path.string(), ": belongs to run ", info.run_id.substr(0, 8), ", passed over");
      }
    } catch (const Error& error) {
      if (warn) log_warning(error.what(), "; passed over");
    }
  }
  std::sort(found.begin(), found.end(), [](const CheckpointInfo& a, const CheckpointInfo& b) {
    return a.generation > b.generation;
  });
  return found;
}

std::optional<CheckpointInfo> CheckpointStore::recover() {
  clean_up();
  return newest();
}

std::optional<CheckpointInfo> CheckpointStore::newest() {
  int64_t newest_step = -1;
  for (const fs::path& path : entries(run_)) {
    if (is_folder(path)) newest_step = std::max(newest_step, step_in_name(path));
  }
  for (const CheckpointInfo& info : list(true)) {
    try {
      verify_checkpoint(info.folder);
    } catch (const Error& error) {
      log_warning(first_line(error.what()), "; passed over");
      continue;
    }
    verified_.insert(info.folder);
    if (newest_step > info.step) {
      log_warning("going back to ", info.folder.string(), " costs ", newest_step - info.step,
                  " steps");
    }
    return info;
  }
  if (newest_step > 0)
    log_warning(run_.string(), ": none of its checkpoints is whole and of this run: it begins at ",
                "step 0, which costs ", newest_step, " steps");
  return std::nullopt;
}

// What an interrupted save or removal left. Only names this program makes, and only in a run that
// is locked; anything else in the folder is the user's.
void CheckpointStore::clean_up() {
  for (const fs::path& path : entries(run_)) {
    const std::string name = path.filename().string();
    const bool interrupted_write =
        name.starts_with('.') && name.find(".tmp-") != std::string::npos;  // AtomicFile
    if (!interrupted_write && !name.starts_with(".trash-")) continue;
    try {
      remove_tree(path);
    } catch (const Error& error) {
      log_warning(error.what());
    }
  }
}

CheckpointInfo CheckpointStore::publish(const CheckpointRequest& request,
                                        const fs::path& temporary) {
  make_folder(temporary);
  CheckpointWriter writer(temporary);
  request.write(writer);
  CheckpointInfo info;
  info.step = request.step;
  info.generation = generation_ + 1;
  info.previous = generation_;
  info.run_id = run_id_;
  info.identity = request.identity;
  info.files = writer.files();
  // The manifest comes last, when all it speaks of is on the disk.
  write_new_file(temporary / kManifestName, manifest_text(info));
  writer.sync_folders();

  if (request.non_finite > 0) {
    const fs::path bad = run_ / concat(".bad-step-", request.step);
    if (fs::exists(bad)) remove_tree(bad);
    rename_new(temporary, bad);
    fail(Fault::diverged, "step ", request.step, ": ", request.non_finite,
         " values are not finite; saved to ", bad.string(), " for inspection only");
  }
  // Between this look and the rename another process could still take over; NOREPLACE and the
  // run's id in the manifest keep that from mixing two runs.
  if (fence_) fence_();
  info.folder = run_ / checkpoint_name(request.step);
  // A run that went back to an older checkpoint meets its own later ones again.
  if (fs::exists(fs::symlink_status(info.folder))) {
    info.folder += concat("-g", info.generation);
  }
  // Used up even if what follows fails: the folder may be there by then.
  generation_ = info.generation;
  rename_new(temporary, info.folder);
  // Without this a power cut may undo the rename, although the step has been announced.
  sync_folder(run_);
  return info;
}

CheckpointInfo CheckpointStore::save(const CheckpointRequest& request) {
  const fs::path temporary = run_ / concat(".tmp-", run_id_.substr(0, 8), "-g", generation_ + 1);
  CheckpointInfo info;
  try {
    if (fs::exists(temporary)) remove_tree(temporary);  // of an attempt that failed
    info = publish(request, temporary);
  } catch (...) {
    try {
      if (fs::exists(temporary)) remove_tree(temporary);
    } catch (const Error& error) {
      log_warning(error.what());
    }
    throw;
  }
  try {
    verify_checkpoint(info.folder);
  } catch (const Error& error) {
    throw Error(concat("reading back what was saved: ", error.what()), Fault::disk);
  }
  verified_.insert(info.folder);
  failed_ = 0;
  // The checkpoint stands; what follows is housekeeping, and its failures are only logged.
  try {
    replace_link(run_ / "last", info.folder.filename().string());
    retire();
  } catch (const Error& error) {
    log_warning(error.what());
  }
  return info;
}

std::optional<CheckpointInfo> CheckpointStore::try_save(const CheckpointRequest& request) {
  try {
    return save(request);
  } catch (const Error& error) {
    if (error.fault() != Fault::disk) throw;
    ++failed_;
    if (failed_ >= policy_.failures) {
      throw Error(concat(error.what(), "; ", failed_, " saves in a row have failed"), Fault::disk,
                  "free space there, then --resume auto");
    }
    log_warning("step ", request.step, " is not saved: ", error.what(), "; training goes on");
    return std::nullopt;
  }
}

// Removes what the policy does not keep. A checkpoint goes only when `keep` newer ones verify, so
// that one that turns out damaged never costs more than one interval.
void CheckpointStore::retire() {
  const auto spared = best();
  int64_t kept = 0;
  for (const CheckpointInfo& info : list(false)) {
    if (kept < policy_.keep) {
      if (!verified_.contains(info.folder)) {
        try {
          verify_checkpoint(info.folder);
          verified_.insert(info.folder);
        } catch (const Error& error) {
          log_warning(first_line(error.what()));
          continue;
        }
      }
      ++kept;
      continue;
    }
    const bool milestone = policy_.keep_every > 0 && info.step % policy_.keep_every == 0;
    if (!milestone && !(spared && spared->filename() == info.folder.filename())) {
      discard(info.folder);
    }
  }
}

void CheckpointStore::discard(const fs::path& folder) {
  // Renamed first: a folder that is half removed must not carry a checkpoint's name.
  const fs::path trash = run_ / (".trash-" + folder.filename().string());
  if (fs::exists(trash)) remove_tree(trash);
  rename_new(folder, trash);
  sync_folder(run_);
  verified_.erase(folder);
  remove_tree(trash);
}

void CheckpointStore::mark_best(const CheckpointInfo& checkpoint) {
  replace_link(run_ / "best", checkpoint.folder.filename().string());
}

std::optional<fs::path> CheckpointStore::best() const {
  std::error_code error;
  const fs::path target = fs::read_symlink(run_ / "best", error);
  if (error || !fs::exists(run_ / target)) return std::nullopt;
  return run_ / target;
}

}  // namespace mullion
