// The rows of eval_tic --results-file, under timm's names of columns.
#pragma once
#include <string>
#include <vector>

namespace mullion {

struct ResultRow {
  std::string model, img_size;
  double top1 = 0, top5 = 0;  // percent
  double millions = 0;        // of parameters
  double crop_pct = 0;
  std::string interpolation;
};

// `format`: csv, json (a list of objects) or md (a table of Markdown).
std::string results_text(const std::string& format, const std::vector<ResultRow>& rows);

}  // namespace mullion
