// Progress of a loop: a bar that is redrawn in place on a terminal, plain lines elsewhere, so that
// a log file holds no carriage returns. Both are limited in rate; the last state always shows.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>

namespace mullion {

struct ProgressStyle {
  // Seconds between lines where there is no terminal; 0: every update is a line.
  double plain_seconds = 1;
  double bar_seconds = 0.1;
  int64_t start = 0;  // done before this run, e.g. the step a resumed run starts from
};

class Progress {
 public:
  // `total` 0: unknown.
  Progress(std::string label, int64_t total, ProgressStyle style = {});
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `status` stands behind the count, e.g. "loss 2.31  284 tok/s".
  void update(int64_t done, const std::string& status = "");
  void finish();  // shows the last update if it was held back

  // "train  120/1000 [=====>        ] 12%  loss 2.31  00:01:10<00:08:40"
  std::string text(bool bar, double elapsed_seconds) const;

 private:
  void show();
  double elapsed() const;

  std::string label_, status_;
  int64_t total_, done_;
  ProgressStyle style_;
  bool terminal_, held_back_ = false, shown_ = false;
  std::chrono::steady_clock::time_point begin_, last_;
};

// "00:08:40", or "2d 03:08:40"
std::string duration_text(double seconds);

}  // namespace mullion
