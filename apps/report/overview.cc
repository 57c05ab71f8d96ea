// What was run, and its curves.
#include <algorithm>
#include <cmath>

#include "apps/report/chart.h"
#include "apps/report/sections.h"

namespace mullion {
namespace {

std::string last_value(const Curve& curve) {
  return curve.empty() ? "" : short_number(curve.back().second);
}

double mean(const Curve& curve) {
  double sum = 0;
  for (const auto& [x, y] : curve) sum += y;
  return curve.empty() ? 0 : sum / static_cast<double>(curve.size());
}

// A field by another at the same steps, times `scale`: fields of one line belong together.
Curve product(const Curve& a, const Curve& b, const Curve& divisor, double scale) {
  Curve out;
  const size_t n = std::min({a.size(), b.size(), divisor.size()});
  for (size_t i = 0; i < n; ++i) {
    out.emplace_back(a[i].first, scale * a[i].second * b[i].second / divisor[i].second);
  }
  return out;
}

const char* rate_key(const RunRecord& run) { return run.of_images() ? "img_s" : "tok_s"; }

// Percent of a step's time that was spent waiting for data.
Curve data_wait(const RunRecord& run) {
  return product(run.curve("data_s"), run.curve(rate_key(run)),
                 run.curve(run.of_images() ? "images" : "tokens"), 100);
}

// One line a run; more than some dozen points are smoothed, with the raw ones pale behind.
Chart chart_of(const std::vector<RunRecord>& runs, const std::string& title,
               const std::string& y_label, double decay, const auto& curve) {
  Chart chart{.title = title, .x_label = "step", .y_label = y_label, .series = {}};
  for (size_t i = 0; i < runs.size(); ++i) {
    const Curve points = curve(runs[i]);
    const bool raw = decay > 0 && points.size() > 20;
    if (raw) chart.series.push_back({.name = "", .points = points, .colour = i, .faint = true});
    chart.series.push_back(
        {.name = runs[i].name, .points = raw ? smoothed(points, decay) : points, .colour = i});
  }
  return chart;
}

Chart validation_chart(const std::vector<RunRecord>& runs, const std::string& title,
                       const std::string& y_label, const std::vector<std::string>& keys) {
  Chart chart{.title = title, .x_label = "step", .y_label = y_label, .series = {}};
  size_t colour = 0;
  for (const RunRecord& run : runs) {
    for (const std::string& key : keys) {
      const auto found = run.val.find(key);
      if (found == run.val.end()) continue;
      const std::string name = keys.size() > 1 ? run.name + " " + key : run.name;
      chart.series.push_back(
          {.name = name, .points = found->second, .colour = colour++, .markers = true});
    }
  }
  return chart;
}

Table settings_table(const std::vector<RunRecord>& runs) {
  Table table{.title = "Settings that differ", .columns = {"setting"}, .rows = {}, .note = {}};
  for (const RunRecord& run : runs) table.columns.push_back(run.name);
  for (const std::string& key : differing_settings(runs)) {
    std::vector<std::string> row = {key};
    for (const RunRecord& run : runs) {
      const auto found = run.config.find(key);
      row.push_back(found == run.config.end() ? "" : found->second);
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

}  // namespace

void add_overview(Document& document, const std::vector<RunRecord>& runs) {
  Table table{.title = "Runs",
              .columns = {"run", "steps", "first loss", "last loss", "per second", "data wait %",
                          "peak GiB", "steps left out"},
              .rows = {},
              .note =
                  "Losses are of single steps, before the update; rates are means over all "
                  "steps."};
  for (const RunRecord& run : runs) {
    const Curve& loss = run.curve("loss");
    const Curve& rate = run.curve(rate_key(run));
    table.rows.push_back(
        {run.name, loss.empty() ? "0" : short_number(loss.back().first),
         loss.empty() ? "" : short_number(loss.front().second), last_value(loss),
         short_number(std::round(mean(rate))) + (run.of_images() ? " images" : " tokens"),
         short_number(std::round(10 * mean(data_wait(run))) / 10), last_value(run.curve("mem_gib")),
         std::to_string(run.skipped)});
  }
  document.table(table);
  if (runs.size() > 1) {
    const Table settings = settings_table(runs);
    if (!settings.rows.empty()) document.table(settings);
  }
  std::string commands;
  for (const RunRecord& run : runs)
    commands += run.command + (run.command.ends_with('\n') ? "" : "\n");
  document.code("Commands", commands);
  if (!runs[0].machine.empty()) document.paragraph("Machine: " + runs[0].machine + ".");
  for (const RunRecord& run : runs) {
    if (!run.config_text.empty())
      document.code("Configuration of " + run.name, run.config_text, false);
  }
}

void add_curves(Document& document, const std::vector<RunRecord>& runs, double decay) {
  const auto named = [](const char* key) {
    return [key](const RunRecord& run) { return run.curve(key); };
  };
  std::vector<std::string> charts = {
      svg_chart(chart_of(runs, "Training loss", "nats", decay, named("loss"))),
      svg_chart(validation_chart(runs, "Validation loss", "nats", {"loss"}))};
  if (runs[0].of_images()) {
    charts.push_back(svg_chart(validation_chart(runs, "Top-1", "%", {"top1"})));
    charts.push_back(svg_chart(validation_chart(runs, "Top-5", "%", {"top5"})));
    charts.push_back(svg_chart(
        validation_chart(runs, "Of the averaged weights", "%", {"ema_top1", "ema_top5"})));
  }
  charts.push_back(svg_chart(chart_of(runs, "Learning rate", "", 0, named("lr"))));
  charts.push_back(svg_chart(chart_of(runs, "Gradient norm", "", decay, named("grad_norm"))));
  charts.push_back(
      svg_chart(chart_of(runs, "Throughput", runs[0].of_images() ? "images/s" : "tokens/s", decay,
                         named(rate_key(runs[0])))));
  charts.push_back(
      svg_chart(chart_of(runs, "Waiting for data", "% of the step", decay, data_wait)));
  document.charts(charts,
                  "Thin lines are the values of single steps, thick ones their exponential "
                  "moving average.");
}

}  // namespace mullion
