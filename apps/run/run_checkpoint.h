// Checkpoints of a run: RUN/checkpoint-000500/ with the files the training program writes and
// COMPLETE, the manifest. A checkpoint exists only when its manifest verifies; names, times and
// links are hints. docs/checkpoints.md explains the protocol:
//   .tmp folder -> files -> fsync each -> COMPLETE, fsync -> fsync folder -> rename -> fsync parent
//   -> read back and verified -> `last` points to it -> older ones may go.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mullion {

// Names and values that a resumed run must share: options (Options::identity), hashes of model,
// tokenizer and data.
using Identity = std::vector<std::pair<std::string, std::string>>;

struct StoredFile {
  uint64_t bytes = 0;
  std::string sha256;
};

struct CheckpointInfo {
  std::filesystem::path folder;
  int64_t step = 0;
  int64_t generation = 0;  // counts the saves of a run: the order of checkpoints
  int64_t previous = 0;    // the generation before, 0: none
  std::string run_id;
  Identity identity;
  std::map<std::string, StoredFile> files;

  std::filesystem::path path(const std::string& name) const { return folder / name; }
  // A whole file, as a string. Error(bad_file) where the checkpoint has none of that name.
  std::string read(const std::string& name) const;
};

// Reads COMPLETE and checks that it is what was written; the files are not looked at.
CheckpointInfo read_manifest(const std::filesystem::path& folder);
// Also compares size and hash of every file. Error(bad_file) names the file and what differs.
CheckpointInfo verify_checkpoint(const std::filesystem::path& folder);
// The newest checkpoint in a run's folder by what the manifests say; the files are not looked at.
std::optional<CheckpointInfo> newest_manifest(const std::filesystem::path& run);
// For what loads a model: the files `names` of a folder ({}: all that the manifest has there but a
// model card) are those that were saved, where the folder is a checkpoint, or a part of one such as
// its adapter; they may be links. Error(bad_file) names the file and what differs, also where a
// checkpoint in a run has no COMPLETE and so is not whole. Any other folder without such a manifest
// is taken as it is, as is what is no folder. Hashes take a second for each 300 MB, so that of
// files of 1 GiB and more the size alone is compared.
void require_whole(const std::filesystem::path& folder, const std::vector<std::string>& names = {});

// Names of fields that may differ.
struct IdentityRules {
  std::vector<std::string> allowed = {};  // as the user says
  std::vector<std::string> logged = {};   // they change no result
  std::vector<std::string> judged = {};   // what evaluations read
  std::vector<std::string> newer = {};    // a checkpoint of before they were kept has none of them
  std::vector<std::string> unset = {};    // the same of options that nobody has given: not told
};
// Error(usage) that names the fields that differ and may not. Of those that differ and are logged
// or judged, and of newer ones that the checkpoint has not, a sentence each.
std::vector<std::string> check_identity(const CheckpointInfo& stored, const Identity& now,
                                        const IdentityRules& rules = {});

// Collects the files of one checkpoint in its .tmp folder. Names may have one folder:
// "adapter/adapter_model.safetensors".
class CheckpointWriter {
 public:
  explicit CheckpointWriter(std::filesystem::path folder) : folder_(std::move(folder)) {}
  void add_file(const std::string& name, std::string_view bytes);
  // `write` makes the file at the path it is given, e.g. by SafetensorsWriter.
  void add_file(const std::string& name,
                const std::function<void(const std::filesystem::path&)>& write);
  // Files that `write` makes in the folder it is given, and whose names it returns.
  void add_files(
      const std::function<std::vector<std::string>(const std::filesystem::path&)>& write);
  // A folder whose files `write` makes, e.g. a PEFT adapter; they are found by listing it.
  void add_folder(const std::string& name,
                  const std::function<void(const std::filesystem::path&)>& write);

  const std::map<std::string, StoredFile>& files() const { return files_; }
  void sync_folders() const;

 private:
  std::filesystem::path place(const std::string& name);
  void record(const std::string& name);

  std::filesystem::path folder_;
  std::map<std::string, StoredFile> files_;
  std::set<std::string> folders_;
};

struct CheckpointPolicy {
  int64_t keep = 2;        // newest verified ones
  int64_t keep_every = 0;  // and each step divisible by this
  int failures = 3;        // saves that may fail in a row before the run ends
};

struct CheckpointRequest {
  int64_t step = 0;
  Identity identity;
  // Values in weights, moments or loss that are not finite: with any, the files go to
  // .bad-step-STEP, which recovery never takes, and save() throws Error(diverged).
  int64_t non_finite = 0;
  std::function<void(CheckpointWriter&)> write;
};

class CheckpointStore {
 public:
  // `fence` throws where the run folder is no longer ours (RunFolder::check_owned).
  CheckpointStore(std::filesystem::path run, std::string run_id, CheckpointPolicy policy,
                  std::function<void()> fence = {});

  // The newest checkpoint that verifies; warns of each one that does not, and says what that
  // costs in steps. Nothing: an empty run.
  std::optional<CheckpointInfo> newest();
  // The same, and removes what an interrupted save or removal left.
  std::optional<CheckpointInfo> recover();

  // Returns when the checkpoint is on the disk, has been read back, and older ones are removed.
  CheckpointInfo save(const CheckpointRequest& request);
  // As save, but a disk that refuses is a warning, until `failures` saves in a row have failed.
  std::optional<CheckpointInfo> try_save(const CheckpointRequest& request);

  // `best` points to it from now on; retention spares it.
  void mark_best(const CheckpointInfo& checkpoint);
  std::optional<std::filesystem::path> best() const;

 private:
  std::vector<CheckpointInfo> list(bool warn) const;
  CheckpointInfo publish(const CheckpointRequest& request, const std::filesystem::path& temporary);
  void clean_up();
  void retire();
  void discard(const std::filesystem::path& folder);

  std::filesystem::path run_;
  std::string run_id_;
  CheckpointPolicy policy_;
  std::function<void()> fence_;
  std::set<std::filesystem::path> verified_;
  int64_t generation_ = 0;  // of the newest checkpoint
  int failed_ = 0;          // saves in a row
};

// "checkpoint-000500"
std::string checkpoint_name(int64_t step);

}  // namespace mullion
