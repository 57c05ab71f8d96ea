// Results of evaluations, and tables from outside.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/report/chart.h"
#include "apps/report/sections.h"
#include "tensor/check.h"
#include "tensor/io/json.h"
#include "tensor/words.h"

namespace mullion {
namespace {

using nlohmann::json;

const Field* find(const Record& record, const std::string& key) {
  const auto found = record.find(key);
  return found == record.end() ? nullptr : &found->second;
}

std::string shown(const Field* field) {
  if (!field) return "";
  return field->is_number ? short_number(field->number) : field->text;
}

// Perplexity against context, one line a run and evaluation.
std::string perplexity_chart(const std::vector<RunRecord>& runs) {
  Chart chart{.title = "Perplexity by context",
              .x_label = "tokens",
              .y_label = "perplexity",
              .log_x = true,
              .log_y = true,
              .series = {}};
  for (const RunRecord& run : runs) {
    std::map<std::string, Curve> lines;
    for (const Record& record : run.evaluations) {
      const Field *context = find(record, "ctx_size"), *value = find(record, "perplexity");
      if (context && value && context->is_number && value->is_number) {
        lines[record.at("eval").text].emplace_back(context->number, value->number);
      }
    }
    for (auto& [name, points] : lines) {
      std::sort(points.begin(), points.end());
      chart.series.push_back({.name = run.name + " " + name,
                              .points = points,
                              .colour = chart.series.size(),
                              .markers = true});
    }
  }
  return svg_chart(chart);
}

// One row a size, one column a run.
Table accuracy_table(const std::vector<RunRecord>& runs) {
  Table table{.title = "Top-1 by size, %",
              .columns = {"size"},
              .rows = {},
              .note = "The same weights at every size."};
  std::vector<std::string> sizes;  // in the order of the first run that has them
  for (const RunRecord& run : runs) {
    table.columns.push_back(run.name);
    for (const Record& record : run.evaluations) {
      const Field* size = find(record, "img_size");
      if (!size || !find(record, "top1")) continue;
      const std::string text = record.at("eval").text + " " + size->text;
      if (std::find(sizes.begin(), sizes.end(), text) == sizes.end()) sizes.push_back(text);
    }
  }
  for (const std::string& size : sizes) {
    std::vector<std::string> row = {size};
    for (const RunRecord& run : runs) {
      std::string cell;
      for (const Record& record : run.evaluations) {
        const Field* of = find(record, "img_size");
        if (of && record.at("eval").text + " " + of->text == size)
          cell = shown(find(record, "top1"));
      }
      row.push_back(cell);
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

Table all_results(const std::vector<RunRecord>& runs) {
  std::set<std::string> keys;
  for (const RunRecord& run : runs) {
    for (const Record& record : run.evaluations) {
      for (const auto& [key, field] : record) keys.insert(key);
    }
  }
  keys.erase("eval");
  Table table{.title = "All evaluations", .columns = {"run", "evaluation"}, .rows = {}, .note = {}};
  table.columns.insert(table.columns.end(), keys.begin(), keys.end());
  for (const RunRecord& run : runs) {
    for (const Record& record : run.evaluations) {
      std::vector<std::string> row = {run.name, record.at("eval").text};
      for (const std::string& key : keys) row.push_back(shown(find(record, key)));
      table.rows.push_back(std::move(row));
    }
  }
  return table;
}

const json& list(const json& object, const std::string& file, const char* key) {
  static const json kNone = json::array();
  const json* found = find_field(object, file, key);
  if (!found) return kNone;
  CHECK_AS(Fault::bad_file, found->is_array(), file, ": ", key, ": not a list");
  return *found;
}

void expect_keys(const json& object, const std::string& file, const std::string& what,
                 const std::vector<std::string>& known) {
  for (const auto& [key, value] : object.items())
    CHECK_AS(Fault::bad_file, std::find(known.begin(), known.end(), key) != known.end(), file, ": ",
             what, ": \"", key, "\" is not one of ", joined(known));
}

Table table_of(const json& from, const std::string& file) {
  Table table;
  expect_keys(from, file, "tables", {"title", "columns", "rows", "note"});
  table.title = get_string_or(from, file, "title", "");
  table.columns = get_strings(from, file, "columns");
  table.note = get_string_or(from, file, "note", "");
  for (const json& row : list(from, file, "rows")) {
    CHECK_AS(Fault::bad_file, row.is_array() && row.size() == table.columns.size(), file,
             ": tables: a row of ", row.size(), " cells under ", table.columns.size(), " columns");
    std::vector<std::string> cells;
    for (const json& cell : row) {
      cells.push_back(cell.is_number()   ? short_number(cell.get<double>())
                      : cell.is_string() ? cell.get<std::string>()
                                         : cell.dump());
    }
    table.rows.push_back(std::move(cells));
  }
  return table;
}

Chart chart_of(const json& from, const std::string& file) {
  Chart chart;
  expect_keys(from, file, "charts", {"title", "x", "y", "log_x", "log_y", "series"});
  chart.title = get_string_or(from, file, "title", "");
  chart.x_label = get_string_or(from, file, "x", "");
  chart.y_label = get_string_or(from, file, "y", "");
  chart.log_x = get_bool_or(from, file, "log_x", false);
  chart.log_y = get_bool_or(from, file, "log_y", false);
  for (const json& line : list(from, file, "series")) {
    Series series{.name = get_string_or(line, file, "name", ""),
                  .points = {},
                  .colour = chart.series.size(),
                  .markers = true};
    for (const json& point : list(line, file, "points")) {
      CHECK_AS(
          Fault::bad_file,
          point.is_array() && point.size() == 2 && point[0].is_number() && point[1].is_number(),
          file, ": charts: a point is [x, y]");
      series.points.emplace_back(point[0].get<double>(), point[1].get<double>());
    }
    chart.series.push_back(std::move(series));
  }
  return chart;
}

}  // namespace

void add_evaluations(Document& document, const std::vector<RunRecord>& runs) {
  const Table all = all_results(runs);
  if (all.rows.empty()) return;
  document.heading(3, "Evaluations");
  document.charts({perplexity_chart(runs)}, "Perplexity against the length of the context.");
  const Table accuracy = accuracy_table(runs);
  if (!accuracy.rows.empty()) document.table(accuracy);
  document.table(all);
}

void add_extra(Document& document, const std::filesystem::path& json_file) {
  const std::string file = json_file.string();
  const json root = read_json_file(json_file);
  CHECK_AS(Fault::bad_file, root.is_object(), file, ": not an object");
  expect_keys(root, file, "the page", {"title", "notes", "tables", "charts"});
  if (const std::string title = get_string_or(root, file, "title", ""); !title.empty()) {
    document.heading(2, title);
  }
  for (const json& note : list(root, file, "notes"))
    document.paragraph(as_string(note, file, "notes"));
  for (const json& table : list(root, file, "tables")) document.table(table_of(table, file));
  std::vector<std::string> charts;
  for (const json& chart : list(root, file, "charts"))
    charts.push_back(svg_chart(chart_of(chart, file)));
  document.charts(charts, "Each line is described by the table of the same title.");
}

}  // namespace mullion
