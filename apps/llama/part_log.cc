// The identity of a job in the first line, results after it; a last line that is half is cut off.
#include "apps/llama/part_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "apps/llama/model_options.h"
#include "apps/program/json_object.h"
#include "tensor/io/file.h"
#include "tensor/io/json.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
constexpr uint64_t kMostBytes = uint64_t{4} << 30;

// Sizes and times of the files at a path, "" where there is none: a job must not go on with another
// model or other questions that came to the same place. Without what jobs like this one write:
// their output may stand there as well.
std::string state_of(const fs::path& path, bool (*is_output)(const std::string& name)) {
  std::error_code none;
  std::vector<fs::path> files;
  if (fs::is_regular_file(path, none)) files.push_back(path);
  if (fs::is_directory(path, none))
    for (const auto& entry : fs::recursive_directory_iterator(path, none))
      if (entry.is_regular_file(none) && !is_output(entry.path().filename().string()))
        files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::string state;
  for (const fs::path& file : files) {
    const auto time = fs::last_write_time(file, none).time_since_epoch().count();
    state += concat(file.filename().string(), " ", fs::file_size(file, none), " ", time, "; ");
  }
  return state;
}

bool is_part(const std::string& name) { return name.ends_with(".part.jsonl"); }
// No model is read from such.
bool is_answer(const std::string& name) {
  return name.ends_with(".jsonl") || (name.starts_with("results_") && name.ends_with(".json"));
}

}  // namespace

std::string run_identity(const Options& options, const std::string& what) {
  JsonObject values, files;
  for (const auto& [key, value] : options.identity()) values.set(key, value);
  for (const auto& [key, path] : options.identity_paths()) files.set(key, state_of(path, is_part));
  const ModelPlace place = find_model(options.get<fs::path>("model.path"));
  files.set("base", place.base.string() + ": " + state_of(place.base, is_answer));
  files.set("adapter", place.adapter.string() + ": " + state_of(place.adapter, is_answer));
  return JsonObject().set("task", what).set("options", values).set("files", files).text();
}

PartLog::PartLog(fs::path file, const Options& options, const std::string& what)
    : file_(std::move(file)) {
  const std::string identity = run_identity(options, what);
  if (!fs::exists(file_)) {
    if (options.dry_run) return;
    write_whole_file(file_, identity + "\n");
    return;
  }
  const std::string text = read_whole_file(file_, kMostBytes);
  const size_t whole = text.rfind('\n');
  size_t begin = text.find('\n');
  CHECK_AS(Fault::usage, begin != text.npos && text.substr(0, begin) == identity, file_.string(),
           ": a run of other options, or on files that have changed, was stopped there; remove it, "
           "or choose another --output");
  for (++begin; begin <= whole; begin = text.find('\n', begin) + 1)
    found_.push_back(parse_json(
        std::string_view(text).substr(begin, text.find('\n', begin) - begin), file_.string()));
  if (whole + 1 == text.size() || options.dry_run) return;
  std::error_code error;  // a line in whose middle it was stopped
  fs::resize_file(file_, whole + 1, error);
  CHECK_AS(Fault::disk, !error, file_.string(), ": ", error.message());
}

void PartLog::add(const std::string& line) {
  const std::string text = line + "\n";
  const int fd = ::open(file_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  CHECK_AS(Fault::disk, fd >= 0, file_.string(), ": ", std::strerror(errno));
  const ssize_t written = ::write(fd, text.data(), text.size());
  const bool is_whole = written == std::ssize(text) && ::fsync(fd) == 0;
  // A short write has set no error: the disk is full.
  const std::string why =
      std::strerror(written >= 0 && written < std::ssize(text) ? ENOSPC : errno);
  ::close(fd);
  CHECK_AS(Fault::disk, is_whole, file_.string(), ": cannot be written: ", why);
}

void PartLog::remove() {
  std::error_code ignored;
  fs::remove(file_, ignored);
}

}  // namespace mullion
