// What evaluations in a run's eval/ say in pictures: passkey by length and depth, LongBench by
// category, accuracy and speed by cache, the tokens that a cache held.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/report/chart.h"
#include "apps/report/maps.h"
#include "apps/report/sections.h"
#include "tensor/check.h"
#include "tensor/io/json.h"
#include "tensor/words.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct Answer {
  std::string name;  // of the run and the file
  std::string file;
  json value;
};

std::vector<Answer> answers_of(const std::vector<RunRecord>& runs) {
  std::vector<Answer> answers;
  for (const RunRecord& run : runs) {
    for (const fs::path& file : evaluation_files(run.folder)) {
      json value = read_json_file(file);
      if (value.is_object())
        answers.push_back({run.name + " " + file.stem().string(), file.string(), std::move(value)});
    }
  }
  return answers;
}

const json& list_of(const json& answer, const char* key) {
  static const json kNone = json::array();
  const auto found = answer.find(key);
  return found != answer.end() && found->is_array() ? *found : kNone;
}

bool has_numbers(const json& entry, std::initializer_list<const char*> keys) {
  for (const char* key : keys)
    if (!entry.is_object() || !entry.contains(key) || !entry.at(key).is_number()) return false;
  return true;
}

std::vector<MapCell> cells_of(const json& answer) {
  std::vector<MapCell> cells;
  for (const json& entry : list_of(answer, "depths"))
    if (has_numbers(entry, {"tokens", "depth", "accuracy"}))
      cells.push_back({entry.at("tokens"), entry.at("depth"), entry.at("accuracy")});
  return cells;
}

std::vector<Bar> categories_of(const Answer& answer) {
  std::vector<Bar> bars;
  for (const json& entry : list_of(answer.value, "categories"))
    if (has_numbers(entry, {"score"}) && entry.contains("category"))
      bars.push_back({get_string(entry, answer.file, "category"), entry.at("score")});
  return bars;
}

// "20%" -> 20
double percent_of(const std::string& budget, const std::string& file) {
  const auto percent = number_in<double>(budget.substr(0, budget.size() - 1));
  CHECK_AS(Fault::bad_file, percent, file, ": kv_budget: ", budget, " is no percentage");
  return *percent;
}

// `key` over the budget, %: a line a cache; a full one is level.
Chart by_budget(const Answer& answer, const char* key, const std::string& title) {
  Chart chart{.title = title, .x_label = "budget, % of the prompt", .y_label = "", .series = {}};
  for (const json& entry : list_of(answer.value, "results")) {
    if (!has_numbers(entry, {key}) || !entry.contains("kv") || !entry.at("kv").is_string())
      continue;
    const auto kind = entry.at("kv").get<std::string>();
    const json budget = entry.value("kv_budget", json());
    const double value = entry.at(key);
    std::vector<std::pair<double, double>> points;
    if (budget.is_null()) points = {{0, value}, {100, value}};
    if (budget.is_string() && budget.get<std::string>().ends_with('%'))
      points = {{percent_of(budget.get<std::string>(), answer.file), value}};
    if (points.empty()) continue;
    auto line = std::find_if(chart.series.begin(), chart.series.end(),
                             [&](const Series& s) { return s.name == kind; });
    if (line == chart.series.end())
      line = chart.series.insert(
          line, {.name = kind, .points = {}, .colour = chart.series.size(), .markers = true});
    line->points.insert(line->points.end(), points.begin(), points.end());
    std::sort(line->points.begin(), line->points.end());
  }
  if (chart.series.size() < 2) chart.series.clear();
  return chart;
}

}  // namespace

std::vector<Picture> kept_pictures(const json& answer, const std::string& name,
                                   const std::string& file) {
  std::vector<Picture> pictures;
  for (const json& entry : list_of(answer, "results")) {
    if (!entry.is_object() || !entry.contains("kept")) continue;
    try {
      const json& kept = entry.at("kept");
      pictures.push_back(
          kept_strips(concat(name, ", ", entry.value("kv", ""), " ", entry.value("kv_budget", "")),
                      kept.at("by_layer").get<std::vector<std::vector<int>>>(),
                      kept.at("kv_heads").get<int>()));
    } catch (const json::exception&) {
      fail(Fault::bad_file, file,
           ": kept: has no kv_heads, a number, or no by_layer, lists of numbers");
    }
  }
  return pictures;
}

const char kKeptStrips[] =
    "The tokens of the first question's prompt that the cache holds when it has been read: a strip "
    "a layer, the first layer on top, the first token at the left, the darker the more KV heads "
    "hold it.";

void add_evaluation_pictures(Document& document, const std::vector<RunRecord>& runs) {
  std::vector<Picture> maps, strips;
  std::vector<std::string> bars, curves;
  for (const Answer& answer : answers_of(runs)) {
    if (const auto cells = cells_of(answer.value); !cells.empty())
      maps.push_back(heat_map(answer.name, cells));
    bars.push_back(svg_bars(answer.name + ", LongBench", categories_of(answer)));
    for (const auto& [key, what] : {std::pair{"acc", "accuracy"}, {"tok_s", "tokens/s"}})
      curves.push_back(svg_chart(by_budget(answer, key, concat(answer.name, ", ", what))));
    for (Picture& strip : kept_pictures(answer.value, answer.name, answer.file))
      strips.push_back(std::move(strip));
  }
  document.pictures(maps, 288, kHeatMapColours);
  document.charts(bars, "Scores by category.");
  document.charts(curves, "By the budget of the cache.");
  document.pictures(strips, 480, kKeptStrips);
}

}  // namespace mullion
