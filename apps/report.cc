// report RUN...: one self-contained HTML page, and the same as Markdown, about one or several runs:
// what was run, its curves, its evaluations, attention patterns or predictions.
#include <filesystem>

#include "apps/program/log.h"
#include "apps/program/main.h"
#include "apps/report/sections.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/file_place.h"

namespace mullion {
namespace {

using std::filesystem::path;

OptionTable make_table() {
  OptionTable table("report", "Writes a page about one or several runs: report RUN...");
  table.add_optional<std::vector<path>>("report.runs", "RUN", "folders of runs").required();
  table.add("report.output", "-o,--output", "report.html", "page to write; .md stands beside it");
  table.add("report.title", "--title", "Mullion: report", "heading of the page");
  table.add("report.smooth", "--smooth", 0.95, "decay of the moving average; 0: none")
      .range(0, 0.9999);
  table.add_optional<std::vector<path>>("report.extra", "--extra",
                                        "JSON files with notes, tables and charts, put first");
  table.add_optional<path>("report.images", "--images",
                           "image folder whose pictures a TiC run is to name");
  table.add("report.image_count", "--image-count", 40, "how many of them")
      .range(1, 10000)
      .only_with("report.images");
  table.add_common_without(true, true);
  return table;
}

Outcome run(const Options& options) {
  const path html = options.get<path>("report.output");
  path markdown = html;
  markdown.replace_extension(".md");
  check_file_place(html, ".html");  // before the work
  std::vector<RunRecord> texts, images;
  for (const path& folder : options.get<std::vector<path>>("report.runs")) {
    RunRecord record = read_run(folder);
    for (const auto* before : {&texts, &images})
      for (const RunRecord& other : *before)
        if (other.name == record.name) record.name = folder.string();  // runs/a, others/a
    (record.of_images() ? images : texts).push_back(std::move(record));
  }
  Document document(options.get<std::string>("report.title"));
  if (options.has("report.extra")) {
    for (const path& file : options.get<std::vector<path>>("report.extra")) {
      add_extra(document, file);
    }
  }
  const auto decay = options.get<double>("report.smooth");
  for (const auto* runs : {&texts, &images}) {
    if (runs->empty()) continue;
    document.heading(2, runs == &texts ? "Language models" : "Image models");
    add_overview(document, *runs);
    add_curves(document, *runs, decay);
    add_evaluations(document, *runs);
    add_evaluation_pictures(document, *runs);
  }
  if (!texts.empty()) add_attention(document, texts);
  if (options.has("report.images")) {
    CHECK_AS(Fault::usage, !images.empty(), "--images: no run of an image model is named");
    add_predictions(document, images[0], options.get<path>("report.images"),
                    options.get<int>("report.image_count"));
  }
  if (options.dry_run) {
    print_result(
        options,
        concat(html.string(), " and ", markdown.string(), " would be written, about ", texts.size(),
               " runs of language models and ", images.size(), " of image models"));
    return JsonObject().set("runs", texts.size() + images.size());
  }
  write_whole_file(html, document.html());
  write_whole_file(markdown, document.markdown());
  log_info(html.string(), " and ", markdown.string());
  return JsonObject().set("report", html.string()).set("markdown", markdown.string());
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) {
  return mullion::run_program(argc, argv, mullion::make_table(), mullion::run);
}
