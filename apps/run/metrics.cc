// Files that are appended to line by line, and cut back to the step that a run resumes from.
#include "apps/run/metrics.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/program/log.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/file_ops.h"
#include "tensor/io/json.h"
#include "tensor/words.h"

namespace mullion {

namespace {
namespace fs = std::filesystem;
constexpr uint64_t kMaxLogBytes = uint64_t{4} << 30;

// Keeps the whole lines for which `keep` is true. Rewrites the file only if some go, after putting
// the old one aside as FILE.bak.
template <typename Keep>
void cut_lines(const fs::path& path, const Keep& keep) {
  if (!fs::exists(path)) return;
  const std::string text = read_whole_file(path, kMaxLogBytes);
  std::string kept;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;  // half written
    const std::string line = text.substr(begin, end - begin);
    if (keep(line)) kept += line + "\n";
    begin = end + 1;
  }
  if (kept == text) return;
  fs::path backup = path;
  backup += ".bak";
  write_whole_file(backup, text);
  write_whole_file(path, kept);
}

// The "step" of a line, or nothing where the line is damaged.
std::optional<int64_t> step_of(const std::string& line) {
  try {
    const nlohmann::json object = parse_json(line, "metrics.jsonl");
    return static_cast<int64_t>(get_uint(object, "metrics.jsonl", "step", INT64_MAX));
  } catch (const Error&) {
    return std::nullopt;
  }
}

fs::path cut_metrics(const fs::path& run, int64_t resume_step) {
  const fs::path path = run / "metrics.jsonl";
  cut_lines(path, [&](const std::string& line) {
    const auto step = step_of(line);
    return step && *step <= resume_step && resume_step > 0;
  });
  return path;
}

fs::path cut_summary(const fs::path& run, int64_t resume_from, size_t columns,
                     const std::string& header) {
  const fs::path path = run / "summary.csv";
  cut_lines(path, [&](const std::string& line) {
    if (line == header) return true;
    int64_t index = -1;
    const auto parsed = std::from_chars(line.data(), line.data() + line.size(), index);
    const auto commas = static_cast<size_t>(std::count(line.begin(), line.end(), ','));
    return parsed.ec == std::errc() && commas + 1 == columns && index < resume_from;
  });
  return path;
}

// One spelling of an entry, so that a resumed run writes the same file as an uninterrupted one.
std::string history_entry(const nlohmann::ordered_json& object) {
  JsonObject line;
  for (const auto& [key, value] : object.items()) line.put(key, value.dump());
  return line.text();
}
}  // namespace

LineFile::LineFile(fs::path path) : path_(std::move(path)) {
  fd_ = open_append(path_);
  struct stat now {};
  if (::fstat(fd_, &now) == 0) size_ = static_cast<uint64_t>(now.st_size);
}

LineFile::~LineFile() { ::close(fd_); }

void LineFile::warn(const char* what) {
  if (!warned_) log_warning(what, "; training goes on without these lines");
  warned_ = true;
}

void LineFile::append(std::string_view line) { append_bytes(std::string(line) + "\n"); }

void LineFile::append_bytes(std::string_view bytes) {
  try {
    write_file(fd_, path_, size_, std::as_bytes(std::span(bytes)));
    size_ += bytes.size();
    warned_ = false;
  } catch (const Error& error) {
    warn(error.what());
    // Part of it may be there: back to the last whole line.
    if (::ftruncate(fd_, static_cast<off_t>(size_)) != 0) return;
  }
}

void LineFile::sync() {
  try {
    sync_file(fd_, path_);
  } catch (const Error& error) {
    warn(error.what());
  }
}

MetricsLog::MetricsLog(const fs::path& run, int64_t resume_step)
    : file_(cut_metrics(run, resume_step)) {}

SummaryCsv::SummaryCsv(const fs::path& run, int64_t resume_from,
                       const std::vector<std::string>& columns)
    : columns_(columns.size()),
      file_(cut_summary(run, resume_from, columns.size(), joined(columns, ","))) {
  if (fs::file_size(run / "summary.csv") == 0) file_.append(joined(columns, ","));
}

void SummaryCsv::row(int64_t index, const std::vector<std::optional<double>>& values) {
  CHECK(values.size() + 1 == columns_, "summary.csv: ", values.size(), " values for ", columns_ - 1,
        " columns");
  std::string line = std::to_string(index);
  for (const auto& value : values) line += "," + (value ? python_number(*value) : "");
  file_.append(line);
}

std::string python_number(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char digits[400];
  auto end =
      std::to_chars(digits, digits + sizeof digits, value, std::chars_format::scientific).ptr;
  const std::string scientific(digits, end);
  const int exponent = std::stoi(scientific.substr(scientific.find('e') + 1));
  // Python leaves the fixed form below 1e-4 and from 1e16 on.
  if (exponent < -4 || exponent >= 16) return scientific;
  end = std::to_chars(digits, digits + sizeof digits, value, std::chars_format::fixed).ptr;
  std::string fixed(digits, end);
  if (fixed.find('.') == std::string::npos) fixed += ".0";
  return fixed;
}

std::string trainer_state_text(const TrainerState& state) {
  std::string history = "[";
  for (const std::string& entry : state.log_history) {
    history += (history.size() > 1 ? ",\n  " : "\n  ") +
               history_entry(nlohmann::ordered_json::parse(entry));
  }
  JsonObject object;
  object.set("global_step", state.global_step).set("max_steps", state.max_steps);
  object.set("epoch", state.epoch).set("num_train_epochs", state.num_train_epochs);
  if (state.best_metric) {
    object.set("best_metric", *state.best_metric);
  } else {
    object.set_null("best_metric");
  }
  if (state.best_model_checkpoint.empty()) {
    object.set_null("best_model_checkpoint");
  } else {
    object.set("best_model_checkpoint", state.best_model_checkpoint);
  }
  object.put("log_history", history + (state.log_history.empty() ? "]" : "\n]"));
  return object.text() + "\n";
}

TrainerState parse_trainer_state(const std::string& text, const std::string& file) {
  const nlohmann::json object = parse_json(text, file, {.max_bytes = size_t{1} << 30});
  TrainerState state;
  state.global_step = static_cast<int64_t>(get_uint(object, file, "global_step", INT64_MAX));
  state.max_steps = static_cast<int64_t>(get_uint_or(object, file, "max_steps", INT64_MAX, 0));
  state.epoch = get_number(object, file, "epoch");
  state.num_train_epochs = get_number_or(object, file, "num_train_epochs", 0);
  if (find_field(object, file, "best_metric") != nullptr) {
    state.best_metric = get_number(object, file, "best_metric");
  }
  state.best_model_checkpoint = get_string_or(object, file, "best_model_checkpoint", "");
  const auto ordered = nlohmann::ordered_json::parse(text);
  const auto history = ordered.find("log_history");
  CHECK_AS(Fault::bad_file, history != ordered.end() && history->is_array(), file,
           ": log_history is no list");
  for (const auto& entry : *history) {
    CHECK_AS(Fault::bad_file, entry.is_object(), file, ": log_history holds what is no object");
    state.log_history.push_back(history_entry(entry));
  }
  return state;
}

}  // namespace mullion
