// The confusion matrix as cells, the reliability diagram as a chart.
#include "apps/tic/judgement_pictures.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "apps/report/chart.h"
#include "apps/report/document.h"
#include "apps/tic/heat.h"
#include "data/png.h"
#include "tensor/check.h"

namespace mullion {
namespace {

constexpr int kSide = 640, kFont = 12;  // of the matrix; of names, pixels
constexpr size_t kMostNames = 50;       // that can be read beside it
constexpr size_t kMostLetters = 28;

std::string shortened(const std::string& name) {
  if (name.size() <= kMostLetters) return html_escape(name);
  size_t end = kMostLetters;  // not within a character of UTF-8
  while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xc0) == 0x80) --end;
  return html_escape(name.substr(0, end)) + "...";
}

}  // namespace

std::string confusion_svg(const std::vector<Judged>& judged,
                          const std::vector<std::string>& names) {
  const size_t n = names.size();
  const std::vector<int64_t> counts = confusion_counts(judged, n);
  HeatMap map{static_cast<int>(n), static_cast<int>(n), {}};
  for (size_t row = 0; row < n; ++row) {
    const auto begin = counts.begin() + static_cast<ptrdiff_t>(row * n);
    const auto all =
        static_cast<float>(std::accumulate(begin, begin + static_cast<ptrdiff_t>(n), int64_t{0}));
    for (size_t column = 0; column < n; ++column)
      map.values.push_back(all > 0 ? static_cast<float>(begin[static_cast<ptrdiff_t>(column)]) / all
                                   : 0);
  }
  const bool named = n <= kMostNames;
  const int edge = named ? static_cast<int>(kMostLetters) * kFont * 6 / 10 + 12 : 24;
  const double cell = static_cast<double>(kSide) / static_cast<double>(n);
  const int font = std::clamp(static_cast<int>(cell * 0.8), 6, kFont);
  std::string svg =
      concat("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", edge + kSide + 8, "\" height=\"",
             edge + kSide + 28, "\" font-family=\"sans-serif\" font-size=\"", font,
             "\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/><image x=\"", edge, "\" y=\"",
             edge, "\" width=\"", kSide, "\" height=\"", kSide,
             "\" style=\"image-rendering:pixelated\" preserveAspectRatio=\"none\" "
             "href=\"data:image/png;base64,",
             base64(encode_png(coloured(map, 1, 1))), "\"/>");
  for (size_t i = 0; named && i < n; ++i) {
    const double middle = edge + (static_cast<double>(i) + 0.5) * cell;
    svg += concat("<text x=\"", edge - 4, "\" y=\"", middle, "\" text-anchor=\"end\" ",
                  "dominant-baseline=\"central\">", shortened(names[i]), "</text>",
                  "<text transform=\"translate(", middle, ",", edge - 4,
                  ") rotate(-90)\" dominant-baseline=\"central\">", shortened(names[i]), "</text>");
  }
  svg += concat("<text x=\"", edge, "\" y=\"", edge + kSide + 20, "\" font-size=\"", kFont,
                "\">rows: the true class, columns: the predicted one; white none, red all of the "
                "row's images; ",
                judged.size(), " images of ", n, " classes</text></svg>\n");
  return svg;
}

std::string reliability_svg(const Calibration& c) {
  Series bins{.name = "accuracy", .points = {}, .colour = 0, .markers = true},
      right{.name = "as sure as right", .points = {{0, 0}, {1, 1}}, .colour = 2, .faint = true},
      share{.name = "share of the images", .points = {}, .colour = 1, .markers = true};
  double total = 0;
  for (const Calibration::Bin& bin : c.bins) total += static_cast<double>(bin.count);
  for (const Calibration::Bin& bin : c.bins) {
    if (bin.count == 0) continue;
    bins.points.emplace_back(bin.confidence, bin.accuracy);
    share.points.emplace_back(bin.confidence, static_cast<double>(bin.count) / total);
  }
  return standalone_svg(
      svg_chart({.title = concat("Reliability: expected calibration error ",
                                 short_number(std::round(100 * c.error) / 100), " %"),
                 .x_label = "confidence",
                 .y_label = "",
                 .series = {right, bins, share}}));
}

}  // namespace mullion
