// The folder of one run: DIR/NAME with its identity (RUN.json), its lock, and the files that say
// how to repeat it (config.toml, command.txt, env.json). Whoever holds the lock owns the folder: a
// second run is refused by the holder's host and process id. The lock is flock(2), which the kernel
// frees when its holder dies.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "apps/options/options.h"
#include "apps/program/json_object.h"

namespace mullion {

enum class Resume {
  no,         // a folder that holds checkpoints already is an error
  automatic,  // go on where there are checkpoints, else start
  required,   // go on; without checkpoints an error
};

struct RunDefaults {
  std::string output = "runs";
  int64_t save_every = 100;  // in `save_unit`
  std::string save_unit = "steps";
  int64_t keep = 2;
  int64_t log_every = 1;
};
// The options of every training program: --output --name --resume --save-every --keep --keep-every
// --save-on --allow-mismatch --log-every, in the sections [save] and [log].
void add_run_options(OptionTable& table, const RunDefaults& defaults = {});

class RunFolder {
 public:
  // Looks at the folder, created where needed: refuses what cannot be a run's, as where another one
  // has it. Until take() it is nobody's, and goes away where it was not there before.
  RunFolder(std::filesystem::path folder, Resume resume);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  // Makes it this run's, for as long as the object lives: takes the lock, looks again, writes
  // RUN.json where it is new. A dry run leaves this out.
  void take();

  const std::filesystem::path& path() const { return path_; }
  const std::string& run_id() const {
    return run_id_;
  }                                          // 32 hexadecimal digits; "" of a new folder
  bool resumed() const { return resumed_; }  // RUN.json was there, and checkpoints
  // Error(disk) where the lock is no longer ours, e.g. on a network folder without locks.
  void check_owned() const;

  // config.toml, command.txt and env.json (with `facts`, e.g. kernels and thread count, beside what
  // is known here: host, start time, version, processor).
  void record(const Options& options, const JsonObject& facts) const;
  // Stops a run that cannot save before it has worked: the folder must be writable, and the disk
  // have room for `copies` checkpoints of `bytes`.
  void preflight(uint64_t bytes, int64_t copies) const;

 private:
  void look();
  void lock();
  void write_lock();
  void leave();

  std::filesystem::path path_;
  const Resume resume_;
  std::vector<std::filesystem::path> made_;  // folders that were not there before
  std::string run_id_, holder_;              // holder_: the text in LOCK
  int lock_ = -1;
  bool resumed_ = false;
};

// What the options of add_run_options say: DIR/NAME, where NAME defaults to the date, the time and
// `what`. --resume takes "no", "auto", a run's folder or one of its checkpoints; with a checkpoint,
// `checkpoint` is set to its folder.
struct RunChoice {
  std::filesystem::path folder, checkpoint;
  Resume resume = Resume::no;
};
RunChoice choose_run(const Options& options, const std::string& what);

}  // namespace mullion
