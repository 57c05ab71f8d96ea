// The order of jobs, what decides whether one is up to date, its folder before and after the call.
#include "apps/reproduce/runner.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>

#include "apps/program/log.h"
#include "apps/program/progress.h"
#include "apps/program/signals.h"
#include "apps/reproduce/child.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/file_ops.h"
#include "tensor/io/json.h"
#include "tensor/io/sha256.h"
#include "tensor/words.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
constexpr uint64_t kMostBytes = uint64_t{64} << 20;

int64_t modified(const fs::directory_entry& entry) {
  std::error_code none;
  return entry.last_write_time(none).time_since_epoch().count();
}

// The last line of a run's metrics that is a training step.
json last_step(const fs::path& run) {
  std::ifstream file(run / "metrics.jsonl");
  json last = json::object();
  for (std::string line; std::getline(file, line);)
    if (line.find("\"split\": \"train\"") != line.npos) last = parse_json(line, "metrics.jsonl");
  return last;
}

std::string log_tail(const fs::path& log) {
  const std::string text = read_whole_file(log, kMostBytes);
  size_t at = text.size();
  for (int lines = 0; at > 0 && lines < 4; --at) lines += text[at - 1] == '\n';
  return text.substr(at > 0 ? at + 1 : 0);
}

// What of two lists of words is not the same: "--lr 1e-3 was, --lr 2e-3 is".
std::string words_differ(const json& was, const json& is) {
  size_t begin = 0, end = 0;
  const size_t shorter = std::min(was.size(), is.size());
  while (begin < shorter && was[begin] == is[begin]) ++begin;
  while (end < shorter - begin && was[was.size() - 1 - end] == is[is.size() - 1 - end]) ++end;
  if (begin > 0) --begin;  // the flag before the value
  const auto part = [&](const json& words) {
    json some = json::array();
    for (size_t i = begin; i + end < words.size(); ++i) some.push_back(words[i]);
    return joined(some, " ", [](const json& word) { return word.get<std::string>(); });
  };
  return concat("was `", part(was), "`, is `", part(is), "`");
}

}  // namespace

std::vector<std::string> needs_of(const Job& job) {
  std::vector<std::string> names;
  for (const std::string& argument : job.arguments) {
    if (!argument.starts_with('@')) continue;
    const std::string name = argument.substr(1, argument.find('/') - 1);
    if (name != job.name && std::find(names.begin(), names.end(), name) == names.end())
      names.push_back(name);
  }
  return names;
}

std::vector<std::string> job_arguments(const Job& job, const fs::path& arms) {
  std::vector<std::string> words;
  for (const std::string& argument : job.arguments)
    words.push_back(argument.starts_with('@') ? (arms / argument.substr(1)).string() : argument);
  if (!job.trains) return words;
  for (const std::string& word : {std::string("--output"), arms.string(), std::string("--name"),
                                  job.name, std::string("--resume"), std::string("auto")})
    words.push_back(word);
  return words;
}

std::string source_commit() {
  const fs::path log = fs::temp_directory_path() / concat("mullion-git-", ::getpid());
  const auto git = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"git", "-C", program_folder().string()});
    const ChildResult result = run_child("/usr/bin/env", words, log);
    return result.code == 0 ? result.last : "";
  };
  std::string commit = git({"rev-parse", "--short=12", "HEAD"});
  if (!commit.empty() && !git({"status", "--porcelain", "--untracked-files=no"}).empty())
    commit += "+";
  std::error_code none;
  fs::remove(log, none);
  return commit;
}

Runner::Runner(fs::path arms) : arms_(std::move(arms)) {
  make_folders(arms_);
  lock_ = ::open((arms_ / "LOCK").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  CHECK_AS(Fault::disk, lock_ >= 0, arms_.string(), "/LOCK: cannot be opened");
  const bool taken = ::flock(lock_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  if (taken) ::close(lock_);
  CHECK_AS(Fault::usage, !taken, arms_.string(), ": another reproduce is at work there");
  commit_ = source_commit();
}

Runner::~Runner() { ::close(lock_); }

std::vector<Job> Runner::order(const Plan& plan, const std::vector<Row>& rows) {
  std::set<std::string> needed;
  std::vector<std::string> open;
  for (const Row& row : rows) open.insert(open.end(), row.jobs.begin(), row.jobs.end());
  const auto find = [&](const std::string& name) {
    const auto found = std::find_if(plan.jobs.begin(), plan.jobs.end(),
                                    [&](const Job& job) { return job.name == name; });
    CHECK(found != plan.jobs.end(), "reproduce: no job ", name);
    return found;
  };
  while (!open.empty()) {
    const std::string name = open.back();
    open.pop_back();
    if (!needed.insert(name).second) continue;
    for (const std::string& before : needs_of(*find(name))) open.push_back(before);
  }
  std::vector<Job> jobs;  // a plan names a job after those it needs
  for (const Job& job : plan.jobs)
    if (needed.contains(job.name)) jobs.push_back(job);
  return jobs;
}

std::string Runner::command(const Job& job) const {
  return quoted_command(job.program, job_arguments(job, arms_));
}

// One walk, once for all jobs that have the path: data that change while they run are seen by the
// next call, for which those jobs ran on what was there before.
const PathState& Runner::state_of(const fs::path& path) const {
  const auto [place, fresh] = states_.try_emplace(path);
  PathState& state = place->second;
  if (!fresh) return state;
  constexpr int kDeepest = 32;  // a link may lead to a folder that it stands in
  std::error_code none;
  std::vector<std::string> lines;
  uint64_t bytes = 0;
  const auto add = [&](const fs::directory_entry& file) {
    // The index of a shard is made where it is missing, by what reads it.
    if (file.path().extension() != ".idx")
      lines.push_back(concat(file.path().lexically_relative(path).string(), " ",
                             file.file_size(none), " ", modified(file)));
  };
  if (const fs::directory_entry file(path, none); file.is_regular_file(none)) {
    add(file);
    state.of_before = json::array({file.file_size(none), modified(file)});
  } else {
    int link = kDeepest;  // the depth of the one that the walk is in
    const auto follow = fs::directory_options::follow_directory_symlink;
    for (auto at = fs::recursive_directory_iterator(path, follow, none); at != end(at);
         at.increment(none)) {
      if (at.depth() <= link) link = kDeepest;
      if (at->is_directory(none)) {
        if (at->is_symlink(none)) link = std::min(link, at.depth());
        if (at.depth() >= kDeepest) at.disable_recursion_pending();
      }
      if (!at->is_regular_file(none)) continue;
      add(*at);
      if (link == kDeepest) bytes += at->file_size(none);
    }
    state.of_before = json::array({bytes, 0});
  }
  std::sort(lines.begin(), lines.end());
  state.digest = sha256_hex(joined(lines, "\n"));
  return state;
}

json Runner::identity(const Job& job) const {
  json needs = json::object(), files = json::object(), words = json::array({job.program});
  for (const std::string& name : needs_of(job)) needs[name] = identities_.at(name);
  for (const std::string& argument : job.arguments) {
    words.push_back(argument);
    std::error_code none;
    if (!argument.starts_with('@') && argument.find('/') != argument.npos &&
        fs::exists(argument, none))
      files[argument] = state_of(argument).digest;
  }
  return {{"call", words}, {"needs", needs}, {"files", files}};
}

std::string Runner::difference(const Job& job, const json& was) const {
  json is = identity(job);
  // An arm took hours: an older one is compared by what it has.
  for (auto& [name, state] : is.at("files").items())
    if (was.at("files").contains(name) && was.at("files").at(name).is_array())
      state = state_of(name).of_before;
  if (was == is) return "";
  if (was.at("call") != is.at("call")) return words_differ(was.at("call"), is.at("call"));
  std::vector<std::string> names;
  for (const char* kind : {"files", "needs"})
    for (const auto& [name, state] : is.at(kind).items())
      if (!was.at(kind).contains(name) || was.at(kind).at(name) != state) names.push_back(name);
  return joined(names) + " changed";
}

void Runner::set_aside(const Job& job, const std::string& why) const {
  fs::path aside;
  for (int i = 1; aside.empty() || fs::exists(aside); ++i)
    aside = arms_ / concat(job.name, ".old-", i);
  log_warning(job.name, ": its configuration changed (", why, "); it is run again, what was there ",
              "is in ", aside.string());
  fs::rename(folder(job.name), aside);
}

void Runner::keep(const Job& job, const json& record) {
  json answer = record.at("answer");
  answer["seconds"] = record.at("seconds");
  if (job.trains) {
    const json step = last_step(folder(job.name));
    for (const char* key : {"mem_gib", "tok_s", "img_s"})
      if (step.contains(key)) answer[key] = step.at(key);
  }
  answers_[job.name] = answer;
  identities_[job.name] = sha256_hex(record.at("identity").dump());
  records_[job.name] = {{"command", record.at("command")},
                        {"seed", job.seed},
                        {"seconds", record.at("seconds")},
                        {"commit", record.at("commit")},
                        {"folder", folder(job.name).string()}};
}

bool Runner::is_complete(const Job& job) const { return answers_.contains(job.name); }

bool Runner::run_one(const Job& job, size_t number, size_t count) {
  const fs::path place = folder(job.name), note = place / "job.json", log = place / "job.log";
  const std::string label = concat("[", number, "/", count, "] ", job.name);
  json record;
  if (fs::exists(note)) {
    record = read_json_file(note);
    const std::string changed = difference(job, record.at("identity"));
    if (!changed.empty()) {
      set_aside(job, changed);
      record = json();
    } else if (record.at("complete").get<bool>()) {
      log_verbose(label, ": complete");
      keep(job, record);
      return true;
    }
  } else {
    CHECK_AS(Fault::usage, !fs::exists(place), place.string(),
             ": is there, and reproduce did not make it; remove it or choose another --output");
  }
  if (stop_requested()) return false;
  const double before = record.is_null() ? 0.0 : record.at("seconds").get<double>();
  log_info(label, before > 0 ? ": goes on" : "", ": ", command(job));
  make_folders(place);
  record = {{"identity", identity(job)}, {"complete", false}, {"command", command(job)},
            {"seconds", before},         {"commit", commit_}, {"answer", json::object()}};
  write_json_file(note, record);
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::string> words = job_arguments(job, arms_);
  words.emplace_back("--json");
  const ChildResult result = run_child(program_folder() / job.program, words, log);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  record["seconds"] = before + time.count();
  record["complete"] = result.code == 0;
  if (result.code == 0) {
    record["answer"] = parse_json(result.last, job.program);
    write_json_file(note, record);
    keep(job, record);
    log_info(label, ": done, ", duration_text(time.count()));
    return true;
  }
  write_json_file(note, record);
  if (stop_requested()) return false;
  failed_.insert(job.name);
  failures_.push_back(job.name);
  if (failure_code_ == 0) failure_code_ = result.code;
  log_warning(label, ": ended with exit code ", result.code, "; ", log.string(), " ends with\n",
              log_tail(log));
  return true;
}

bool Runner::run(const std::vector<Job>& jobs) {
  size_t number = 0;
  bool stopped = false;
  for (const Job& job : jobs) {
    ++number;
    if (is_complete(job) || failed_.contains(job.name)) continue;
    bool ready = true;
    std::string lost;
    for (const std::string& name : needs_of(job)) {
      if (failed_.contains(name)) lost = name;
      ready = ready && answers_.contains(name);
    }
    if (!lost.empty()) {
      log_warning(job.name, ": left out, since ", lost, " failed");
      failed_.insert(job.name);
      failures_.push_back(job.name);
      continue;
    }
    // After a stop, those that are complete still count.
    if (!ready || !run_one(job, number, jobs.size())) stopped = true;
  }
  return !stopped;
}

}  // namespace mullion
