// The record of a run: metrics.jsonl, summary.csv, TensorBoard events, and the log_history of
// trainer_state.json. A disk that refuses a line is a warning, never the end of a run; a line that
// was half written is removed again, so every line in the file is whole.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/program/json_object.h"

namespace mullion {

// A text file that grows by whole lines.
class LineFile {
 public:
  explicit LineFile(std::filesystem::path path);  // created where missing
  ~LineFile();
  LineFile(const LineFile&) = delete;
  LineFile& operator=(const LineFile&) = delete;
  void append(std::string_view line);  // a newline is added
  void append_bytes(std::string_view bytes);
  void sync();  // before a checkpoint: its steps are then in the file, whatever happens

 private:
  void warn(const char* what);

  std::filesystem::path path_;
  int fd_ = -1;
  uint64_t size_ = 0;
  bool warned_ = false;
};

// metrics.jsonl: one object a line with "step". On resume, lines of later steps and a half-written
// last line are cut; the file as it was stays as metrics.jsonl.bak.
class MetricsLog {
 public:
  // `resume_step`: the step of the checkpoint; 0: a new run.
  MetricsLog(const std::filesystem::path& run, int64_t resume_step);
  void write(const JsonObject& line) { file_.append(line.text()); }
  void sync() { file_.sync(); }

 private:
  LineFile file_;
};

// summary.csv as timm writes it: a header once, one row an epoch, numbers as Python prints them.
class SummaryCsv {
 public:
  // Rows whose first column is `resume_from` or later are cut; 0 starts anew.
  SummaryCsv(const std::filesystem::path& run, int64_t resume_from = 0,
             const std::vector<std::string>& columns = {"epoch", "train_loss", "eval_loss",
                                                        "eval_top1", "eval_top5", "lr"});
  // One value a column behind the first; nullopt leaves the cell empty.
  void row(int64_t index, const std::vector<std::optional<double>>& values);

 private:
  size_t columns_;
  LineFile file_;
};
std::string python_number(double value);  // repr(): "0.1", "1.0", "1e-05", "nan"

// trainer_state.json with the keys of Hugging Face's Trainer; plotting tools read log_history.
struct TrainerState {
  int64_t global_step = 0, max_steps = 0;
  double epoch = 0, num_train_epochs = 0;
  std::optional<double> best_metric;
  std::string best_model_checkpoint;
  std::vector<std::string> log_history;  // JSON objects, one a logged step
};
std::string trainer_state_text(const TrainerState& state);
TrainerState parse_trainer_state(const std::string& text, const std::string& file);

}  // namespace mullion
