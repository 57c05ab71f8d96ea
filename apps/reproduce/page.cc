// Curves, heat maps and tables of what has come out so far, in the three files.
#include "apps/reproduce/page.h"

#include <algorithm>
#include <cmath>

#include "apps/report/chart.h"
#include "apps/report/maps.h"
#include "apps/report/run_record.h"
#include "apps/report/sections.h"
#include "data/decode.h"
#include "tensor/io/file.h"
#include "tensor/io/file_ops.h"
#include "tensor/io/json.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
constexpr double kDecay = 0.9;  // of the smoothed losses

std::vector<std::string> metrics_of(const std::vector<Measured>& rows) {
  std::vector<std::string> names;
  for (const Measured& m : rows)
    if (std::find(names.begin(), names.end(), m.row.metric) == names.end())
      names.push_back(m.row.metric);
  return names;
}

std::vector<std::string> arms_of(const std::vector<Measured>& rows, const std::string& metric) {
  std::vector<std::string> names;
  for (const Measured& m : rows)
    if (m.row.metric == metric && std::find(names.begin(), names.end(), m.row.arm) == names.end())
      names.push_back(m.row.arm);
  return names;
}

// Means over x, a line an arm; an arm with one point among others is a level line.
Chart metric_chart(const Plan& plan, const std::vector<Measured>& rows, const std::string& metric) {
  const auto known = plan.metrics.find(metric);
  const Metric style = known == plan.metrics.end() ? Metric() : known->second;
  Chart chart{.title = metric,
              .x_label = style.x_label,
              .y_label = "",
              .log_x = style.log_x,
              .log_y = false,
              .series = {}};
  double low = INFINITY, high = -INFINITY;
  for (const std::string& arm : arms_of(rows, metric)) {
    Series line{.name = arm, .points = {}, .colour = chart.series.size(), .markers = true};
    for (const Measured& m : rows) {
      if (m.row.metric != metric || m.row.arm != arm || !m.row.x || m.row.depth || !m.ours)
        continue;
      line.points.emplace_back(*m.row.x, m.ours->mean);
      low = std::min(low, *m.row.x);
      high = std::max(high, *m.row.x);
    }
    std::sort(line.points.begin(), line.points.end());
    if (!line.points.empty()) chart.series.push_back(std::move(line));
  }
  for (Series& line : chart.series)
    if (line.points.size() == 1 && low < high)
      line.points = {{low, line.points[0].second}, {high, line.points[0].second}};
  if (!(low < high)) chart.series.clear();  // one place: the table says it all
  return chart;
}

std::string loss_chart(const std::vector<Job>& jobs, const Runner& runner) {
  Chart chart{.title = "Loss of the trainings",
              .x_label = "step",
              .y_label = "loss",
              .log_x = false,
              .log_y = false,
              .series = {}};
  for (const Job& job : jobs) {
    if (!job.trains || job.seed > 1 || !runner.is_complete(job)) continue;
    if (job.seed == 0) continue;  // the base's are of other lengths of time
    const RunRecord record = read_run(runner.folder(job.name));
    chart.series.push_back({.name = chart.series.size() < 8 ? job.name : "",
                            .points = smoothed(record.curve("loss"), kDecay),
                            .colour = chart.series.size()});
  }
  return svg_chart(chart);
}

Picture heat_map_of(const std::vector<Measured>& rows, const std::string& arm,
                    const std::string& metric) {
  std::vector<MapCell> cells;
  for (const Measured& m : rows)
    if (m.row.arm == arm && m.row.metric == metric && m.row.depth && m.row.x)
      cells.push_back({*m.row.x, *m.row.depth, m.ours ? m.ours->mean : 0, m.ours.has_value()});
  return heat_map(arm, cells);
}

void add_heat_maps(Document& document, const std::vector<Measured>& rows) {
  std::vector<Measured> deep;
  for (const Measured& m : rows)
    if (m.row.depth) deep.push_back(m);
  std::vector<Picture> pictures;
  for (const std::string& metric : metrics_of(deep))
    for (const std::string& arm : arms_of(deep, metric))
      pictures.push_back(heat_map_of(deep, arm, metric));
  document.pictures(pictures, 288, kHeatMapColours);
}

// A metric that is over nothing: a bar an arm.
std::string metric_bars(const std::vector<Measured>& rows, const std::string& metric) {
  std::vector<Bar> bars;
  for (const Measured& m : rows)
    if (m.row.metric == metric && !m.row.x && m.ours) bars.push_back({m.row.arm, m.ours->mean});
  return bars.size() > 1 ? svg_bars(metric, bars) : "";
}

// The tokens that caches held, of the jobs that say so.
void add_kept(Document& document, const std::vector<Job>& jobs, const Runner& runner) {
  std::vector<Picture> strips;
  for (const Job& job : jobs)
    if (job.seed <= 1 && runner.is_complete(job))
      for (Picture& strip : kept_pictures(runner.answers().at(job.name), job.name, job.name))
        strips.push_back(std::move(strip));
  document.pictures(strips, 480, kKeptStrips);
}

}  // namespace

nlohmann::json write_page(const Page& page, const std::vector<Measured>& rows,
                          const std::vector<Job>& jobs, const Runner& runner,
                          const fs::path& folder) {
  Document document(page.experiment.paper + ": " + page.experiment.what);
  document.heading(2, page.heading);
  if (!page.complete)
    document.paragraph("Not complete: some arms were not run, or not to their end.");
  for (const Table& table : result_tables(page.plan, rows, page.at_paper_scale))
    document.table(table);
  for (const std::string& note : page.plan.notes) document.paragraph(note);
  document.paragraph(
      "Marks: (paper) was read in the paper, (recall) is remembered from it, ? is not to be had; "
      "reconstruction: our choice stands in for the paper's. The interval is that of the mean over "
      "seeds by Student's t.");
  std::vector<std::string> charts;
  for (const std::string& metric : metrics_of(rows))
    for (const std::string& svg :
         {svg_chart(metric_chart(page.plan, rows, metric)), metric_bars(rows, metric)})
      charts.push_back(svg);
  const std::string caption = "Our figures, " + page.heading + ".";
  document.charts(charts, "Means over seeds. " + caption);
  add_heat_maps(document, rows);
  std::vector<Picture> pictures;
  for (const JobPicture& p : page.plan.pictures)
    if (const fs::path file = runner.folder(p.job) / p.file; fs::exists(file))
      pictures.push_back({read_image(file.string()), p.caption});
  if (!pictures.empty()) document.pictures(pictures, 224, caption);
  add_kept(document, jobs, runner);
  document.charts({loss_chart(jobs, runner)}, "Of the first seed, smoothed. " + caption);
  if (!page.plan.patterns.empty()) {
    document.heading(2, "Who sees whom");
    for (const std::string& name : page.plan.patterns) add_pattern(document, name);
  }
  std::string commands;
  nlohmann::json records = nlohmann::json::object(), measured = nlohmann::json::array();
  double seconds = 0;
  for (const Job& job : jobs) {
    commands += runner.command(job) + "\n";
    if (!runner.records().contains(job.name)) continue;
    records[job.name] = runner.records().at(job.name);
    seconds += records[job.name].at("seconds").get<double>();
  }
  document.heading(2, "How it was done");
  document.paragraph("The arms took " + short_number(std::round(seconds)) +
                     " seconds, those that other experiments share among them.");
  document.code("Commands", commands);
  for (const Measured& row : rows) measured.push_back(to_json(row));
  const nlohmann::json results = {
      {"id", page.experiment.id}, {"paper", page.experiment.paper}, {"scale", page.scale},
      {"heading", page.heading},  {"complete", page.complete},      {"rows", measured},
      {"jobs", records},          {"notes", page.plan.notes},       {"commit", source_commit()}};
  make_folders(folder);
  write_json_file(folder / "results.json", results);
  write_whole_file(folder / "table.md", document.markdown());
  write_whole_file(folder / "report.html", document.html());
  return results;
}

}  // namespace mullion
