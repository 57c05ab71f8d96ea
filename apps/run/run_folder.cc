// The checks before a run, the lock by flock(), then the files that say how to repeat it.
#include "apps/run/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/program/command_text.h"
#include "apps/program/log.h"
#include "apps/run/launch.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/file_ops.h"
#include "tensor/io/json.h"
#include "tensor/words.h"

namespace mullion {

namespace {
namespace fs = std::filesystem;
constexpr uint64_t kMaxSmallFile = 1 << 20;

std::string random_hex(size_t bytes) {
  std::string noise(bytes, '\0');
  CHECK(::getrandom(noise.data(), bytes, 0) == static_cast<ssize_t>(bytes),
        "no random bytes: ", std::strerror(errno));
  return hex_of(noise);
}

// The first line of a file of the system, "" where there is none.
std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// When this process started, in clock ticks since boot: with the id it names a process for ever.
std::string start_ticks() {
  const std::string stat = first_line("/proc/self/stat");
  size_t at = stat.rfind(')');
  for (int field = 2; field < 22 && at != std::string::npos; ++field) at = stat.find(' ', at + 1);
  return at == std::string::npos ? "" : stat.substr(at + 1, stat.find(' ', at + 1) - at - 1);
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "";
}

std::string local_time(const char* format) {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::localtime_r(&now, &parts);
  char text[64];
  return {text, std::strftime(text, sizeof text, format, &parts)};
}

bool holds_checkpoints(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory() && entry.path().filename().string().starts_with("checkpoint-")) {
      return true;
    }
  }
  return false;
}

// Whether flock() gave the lock, which the kernel frees with `fd`. Error(usage) names who has it.
bool try_lock(int fd, const fs::path& file) {
  CHECK_AS(Fault::disk, fd >= 0, file.string(), ": cannot open: ", std::strerror(errno));
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return true;
  if (errno != EWOULDBLOCK) return false;
  std::string holder;
  try {
    const nlohmann::json who = read_json_file(file);
    holder = concat("process ", who.value("pid", 0), " on ", who.value("host", "?"), " (run ",
                    who.value("run_id", "?").substr(0, 8), ")");
  } catch (const std::exception&) {
    holder = "another process";  // it has not written its name yet
  }
  throw Error(concat(file.parent_path().string(), ": in use by ", holder), Fault::usage,
              "wait for it to end, or choose another --name");
}

}  // namespace

RunFolder::RunFolder(fs::path folder, Resume resume) : path_(std::move(folder)), resume_(resume) {
  std::error_code ignored;
  for (fs::path f = path_; !f.empty() && !fs::exists(f, ignored); f = f.parent_path())
    made_.push_back(f);
  try {
    make_folders(path_);
    // Where there is no file nobody holds it. It is let go at once: a run may begin meanwhile.
    const fs::path file = path_ / "LOCK";
    if (fs::exists(file)) {
      lock_ = ::open(file.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
      try_lock(lock_, file);
      ::close(std::exchange(lock_, -1));
    }
    look();
  } catch (...) {
    leave();
    throw;
  }
}

RunFolder::~RunFolder() { leave(); }

void RunFolder::leave() {
  if (lock_ >= 0) ::close(lock_);
  std::error_code ignored;
  for (const fs::path& folder : made_) fs::remove(folder, ignored);
}

void RunFolder::look() {
  const fs::path identity = path_ / "RUN.json";
  resumed_ = fs::exists(identity) && holds_checkpoints(path_);
  if (resumed_ && resume_ == Resume::no)
    throw Error(path_.string() + ": holds the checkpoints of a run already", Fault::usage,
                "--resume auto, or another --name");
  if (!resumed_ && resume_ == Resume::required)
    throw Error(path_.string() + ": has no checkpoint to resume from", Fault::usage,
                "--resume auto starts where there is none");
  if (resumed_) run_id_ = get_string(read_json_file(identity), identity.string(), "run_id");
}

void RunFolder::take() {
  make_folders(path_);  // a dry run may have taken its own away
  lock();
  made_.clear();
  look();
  if (!resumed_) {
    run_id_ = random_hex(16);
    write_json_file(
        path_ / "RUN.json",
        {{"format", 1}, {"run_id", run_id_}, {"created", local_time("%Y-%m-%dT%H:%M:%S%z")}});
  }
  write_lock();
}

void RunFolder::lock() {
  const fs::path file = path_ / "LOCK";
  lock_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  // No locks on this file system: the check before each save has to do.
  if (!try_lock(lock_, file))
    log_warning(file.string(), ": this folder cannot be locked: ", std::strerror(errno));
}

void RunFolder::write_lock() {
  holder_ = nlohmann::json({{"host", host_name()},
                            {"boot_id", machine_identity()},
                            {"pid", ::getpid()},
                            {"start_ticks", start_ticks()},
                            {"run_id", run_id_}})
                .dump() +
            "\n";
  const fs::path file = path_ / "LOCK";
  truncate_file(lock_, file, 0);
  write_file(lock_, file, 0, std::as_bytes(std::span(holder_)));
}

void RunFolder::check_owned() const {
  const fs::path file = path_ / "LOCK";
  std::string now;
  try {
    now = read_whole_file(file, kMaxSmallFile);
  } catch (const Error& error) {
    fail(Fault::disk, "the lock of this run is gone: ", error.what());
  }
  CHECK_AS(Fault::disk, now == holder_, file.string(),
           ": another process has taken this run over: ", now);
}

void RunFolder::record(const Options& options, const JsonObject& facts) const {
  write_whole_file(path_ / "config.toml", options.to_toml());
  std::string command = options.program();
  for (const std::string& argument : options.arguments) command += " " + quoted_for_shell(argument);
  write_whole_file(path_ / "command.txt", command + "\n");
  JsonObject env;
  env.set("program", options.program()).set("version", MULLION_VERSION);
  env.set("host", host_name()).set("processor", processor_name());
  env.set("cores", static_cast<int64_t>(::sysconf(_SC_NPROCESSORS_ONLN)));
  env.set("given", options.given());
  env.set("started", local_time("%Y-%m-%dT%H:%M:%S%z")).set("facts", facts);
  write_whole_file(path_ / "env.json", env.text() + "\n");
}

void RunFolder::preflight(uint64_t bytes, int64_t copies) const {
  const fs::path probe = path_ / ".tmp-probe";
  std::error_code ignored;
  fs::remove(probe, ignored);  // left by a process that was killed here
  write_whole_file(probe, "a checkpoint could be written here\n");
  remove_file(probe);
  struct statvfs disk {};
  CHECK_AS(Fault::disk, ::statvfs(path_.c_str(), &disk) == 0, path_.string(),
           ": cannot ask for free space: ", std::strerror(errno));
  const double free_bytes = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
  const double needed = 1.1 * static_cast<double>(bytes) * static_cast<double>(copies);
  if (needed > free_bytes) {
    throw Error(concat(path_.string(), ": ", copies, " checkpoints of ", bytes >> 20, " MiB need ",
                       static_cast<int64_t>(needed / (1 << 20)), " MiB, the disk has ",
                       static_cast<int64_t>(free_bytes / (1 << 20)), " MiB"),
                Fault::disk, "a smaller --keep, or another --output");
  }
}

namespace {
// --resume RUN: what the run was given lies below all that is given now.
bool take_settings_of_run(const Options& given, Options& below) {
  const auto resume = given.get<std::string>("save.resume");
  if (resume == "no" || resume == "auto") return false;
  const fs::path run = choose_run(given, "").folder, file = run / "config.toml";
  CHECK_AS(Fault::usage, fs::exists(file) && fs::exists(run / "env.json"), "--resume ", resume,
           ": no run of this program: ", run.string(), " has no config.toml and env.json");
  const std::string env_file = (run / "env.json").string();
  const nlohmann::json env = read_json_file(env_file);
  const std::string program = get_string(env, env_file, "program");
  CHECK_AS(Fault::usage, program == given.program(), "--resume ", resume, ": a run of ", program,
           ", not of ", given.program());
  if (!env.contains("given")) return false;  // of a former version: its options are given again
  const std::vector<std::string> keys = get_strings(env, env_file, "given");
  apply_toml(below, given.table(), file, &keys);
  for (const char* own : {"save.resume", "save.allow_mismatch"})
    below.set(own, given.value(own), given.source(own));
  // Where it is now, also after it was moved.
  const fs::path place = fs::canonical(run);
  std::error_code gone;
  if (below.get<std::string>("save.name") != place.filename())
    below.set("save.name", place.filename().string(), "--resume");
  if (!fs::equivalent(below.get<fs::path>("save.output"), place.parent_path(), gone))
    below.set("save.output", place.parent_path().string(), "--resume");
  below.notes.push_back("settings   of " + file.string());
  return true;
}
}  // namespace

void add_run_options(OptionTable& table, const RunDefaults& defaults) {
  table.set_base(take_settings_of_run);
  table.add("save.output", "--output", defaults.output, "folder of the runs").free_on_resume();
  table.add("save.name", "--name,--experiment", "", "name of this run (date, time and model)")
      .free_on_resume();
  table
      .add("save.resume", "--resume", "no",
           "no, auto, or the folder of a run or checkpoint, whose settings are taken")
      .free_on_resume();
  table
      .add("save.every", "--save-every", defaults.save_every,
           defaults.save_unit + " between checkpoints; 0: at the end only")
      .at_least(std::min<int64_t>(0, defaults.save_every))
      .free_on_resume();
  table.add("save.keep", "--keep,--checkpoint-hist", defaults.keep, "newest checkpoints to keep")
      .range(1, 1000)
      .free_on_resume();
  table.add("save.keep_every", "--keep-every", 0, "keep each step divisible by this; 0: none")
      .only_with("save.every")
      .free_on_resume();
  table
      .add("save.signals", "--save-on", std::vector<std::string>{"TERM", "USR1", "INT"},
           "signals that save and stop")
      .one_of({"TERM", "USR1", "USR2", "INT"})
      .free_on_resume();
  table
      .add("save.allow_mismatch", "--allow-mismatch", std::vector<std::string>{},
           "fields that may differ from the checkpoint's")
      .not_with("save.resume", {"no"})
      .free_on_resume();
  table.add("log.every", "--log-every,--log-interval", defaults.log_every, "steps between lines")
      .at_least(1)
      .free_on_resume();
}

RunChoice choose_run(const Options& options, const std::string& what) {
  RunChoice choice;
  const auto name = options.get<std::string>("save.name");
  CHECK_AS(Fault::usage, name.find('/') == std::string::npos && name != "." && name != "..",
           "--name: ", name, " is not one folder's name; --output says where it is");
  const auto resume = options.get<std::string>("save.resume");
  const fs::path output = options.get<fs::path>("save.output");
  choice.folder = output / (name.empty() ? local_time("%Y%m%d-%H%M%S-") + what : name);
  if (resume == "auto") {
    CHECK_AS(Fault::usage, !name.empty(), "--resume auto: needs --name, which run to resume");
    choice.resume = Resume::automatic;
  } else if (resume != "no") {
    fs::path path = fs::path(resume).lexically_normal();
    if (path.filename().empty()) path = path.parent_path();
    CHECK_AS(Fault::usage, fs::is_directory(path), "--resume ", resume,
             ": no such folder; auto, or the folder of a run or checkpoint");
    path = fs::is_symlink(path) ? fs::canonical(path) : path;  // RUN/last
    const bool checkpoint = path.filename().string().starts_with("checkpoint-");
    choice.folder = checkpoint ? path.parent_path() : path;
    if (choice.folder.empty()) choice.folder = ".";
    if (checkpoint) choice.checkpoint = path;
    choice.resume = Resume::required;
    std::error_code ignored;
    const std::string why = "with --resume " + resume + ", which says where the run is";
    if (!name.empty() && choice.folder.filename() != name) options.tell_idle("save.name", why);
    if (!fs::equivalent(choice.folder / "..", output, ignored))
      options.tell_idle("save.output", why);
  }
  return choice;
}

}  // namespace mullion
