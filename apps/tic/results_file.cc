// The cells once, joined as CSV, JSON or Markdown.
#include "apps/tic/results_file.h"

#include <utility>

#include "apps/program/csv.h"
#include "apps/program/json_object.h"
#include "tensor/check.h"

namespace mullion {

namespace {
using Cells = std::vector<std::pair<const char*, std::string>>;

Cells cells_of(const ResultRow& r) {
  return {{"model", r.model},
          {"img_size", r.img_size},
          {"top1", concat(r.top1)},
          {"top1_err", concat(100 - r.top1)},
          {"top5", concat(r.top5)},
          {"top5_err", concat(100 - r.top5)},
          {"param_count", concat(r.millions)},
          {"crop_pct", concat(r.crop_pct)},
          {"interpolation", r.interpolation}};
}

// Numbers as numbers; a size such as 224x320 is none.
std::string json_row(const ResultRow& r) {
  JsonObject row;
  for (const auto& [name, value] : cells_of(r)) {
    const bool number = value.find_first_not_of("0123456789.e+-") == std::string::npos;
    row.put(name, number ? value : json_string(value));
  }
  return row.text();
}

std::string line_of(const std::vector<std::string>& cells, const char* begin, const char* between,
                    const char* end) {
  std::string line = begin;
  for (size_t i = 0; i < cells.size(); ++i) line += (i > 0 ? between : "") + cells[i];
  return line + end + "\n";
}
}  // namespace

std::string results_text(const std::string& format, const std::vector<ResultRow>& rows) {
  std::string text;
  if (format == "json") {
    for (const ResultRow& row : rows) text += (text.empty() ? "[" : ",\n ") + json_row(row);
    return (text.empty() ? "[" : text) + "]\n";
  }
  const bool csv = format == "csv";
  const char *begin = csv ? "" : "| ", *between = csv ? "," : " | ", *end = csv ? "" : " |";
  std::vector<std::string> names, rule;
  for (const auto& [name, value] : cells_of({})) {
    names.emplace_back(name);
    rule.emplace_back("---");
  }
  text = line_of(names, begin, between, end);
  if (!csv) text += line_of(rule, begin, between, end);
  for (const ResultRow& row : rows) {
    std::vector<std::string> values;
    for (const auto& [name, value] : cells_of(row))
      values.push_back(csv ? csv_field(value) : value);
    text += line_of(values, begin, between, end);
  }
  return text;
}

}  // namespace mullion
