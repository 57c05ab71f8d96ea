// Cells of one size, coloured by the share; axes are labelled by the values themselves.
#include "apps/report/maps.h"

#include <algorithm>
#include <cmath>

#include "apps/report/chart.h"
#include "tensor/check.h"
#include "tensor/words.h"

namespace mullion {
namespace {

constexpr double kNone[3] = {213, 94, 0}, kAll[3] = {0, 92, 150}, kPaper[3] = {250, 250, 248};
constexpr double kUnknown = 240;

// From `low` (share 0) to `high` (1).
void fill(Image& image, int left, int top, int width, int height, const double (&low)[3],
          const double (&high)[3], double share) {
  for (int y = top; y < top + height; ++y)
    for (int x = left; x < left + width; ++x)
      for (int c = 0; c < 3; ++c)
        image.row(y)[3 * x + c] =
            static_cast<uint8_t>(std::lround(low[c] + share * (high[c] - low[c])));
}

std::vector<double> places(const std::vector<MapCell>& cells, double MapCell::*axis) {
  std::vector<double> list;
  for (const MapCell& cell : cells) list.push_back(cell.*axis);
  std::sort(list.begin(), list.end());
  list.erase(std::unique(list.begin(), list.end()), list.end());
  return list;
}

int place_of(const std::vector<double>& list, double value) {
  return static_cast<int>(std::find(list.begin(), list.end(), value) - list.begin());
}

}  // namespace

const char kHeatMapColours[] =
    "Accuracy by length and depth: blue is 1, orange is 0, grey was not measured.";

Picture heat_map(const std::string& title, const std::vector<MapCell>& cells) {
  constexpr int kCell = 24;
  const std::vector<double> lengths = places(cells, &MapCell::across),
                            depths = places(cells, &MapCell::down);
  Picture picture;
  picture.image.resize(kCell * static_cast<int>(lengths.size()),
                       kCell * static_cast<int>(depths.size()));
  std::fill(picture.image.pixels.begin(), picture.image.pixels.end(),
            static_cast<uint8_t>(kUnknown));
  for (const MapCell& cell : cells)
    if (cell.measured)
      fill(picture.image, kCell * place_of(lengths, cell.across),
           kCell * place_of(depths, cell.down), kCell, kCell, kNone, kAll, cell.share);
  picture.caption = concat(title, ": across ", joined(lengths, ", ", short_number),
                           " tokens; down: depth ", joined(depths, ", ", short_number), " %");
  return picture;
}

Picture kept_strips(const std::string& caption, const std::vector<std::vector<int>>& kept,
                    int heads) {
  constexpr int kLeast = 360, kHigh = 5, kGap = 1;  // pixels
  CHECK(heads > 0 && !kept.empty() && !kept[0].empty(), "kept tokens: ", kept.size(), " layers, ",
        heads, " heads");
  const auto tokens = static_cast<int>(kept[0].size());
  const int wide = std::max(1, kLeast / tokens);
  Picture picture{.image = {}, .caption = caption};
  picture.image.resize(wide * tokens, (kHigh + kGap) * static_cast<int>(kept.size()));
  std::fill(picture.image.pixels.begin(), picture.image.pixels.end(), uint8_t{255});
  for (size_t layer = 0; layer < kept.size(); ++layer)
    for (int t = 0; t < tokens; ++t)
      fill(picture.image, wide * t, (kHigh + kGap) * static_cast<int>(layer), wide, kHigh, kPaper,
           kAll, static_cast<double>(kept[layer].at(static_cast<size_t>(t))) / heads);
  return picture;
}

std::string svg_bars(const std::string& title, const std::vector<Bar>& bars) {
  if (bars.empty()) return "";
  constexpr int kRow = 20, kTop = 30, kName = 190, kLength = 200, kWidth = 460;
  double most = 0;
  for (const Bar& bar : bars) most = std::max(most, bar.value);
  const int height = kTop + kRow * static_cast<int>(bars.size()) + 6;
  std::string svg = concat("<svg viewBox=\"0 0 ", kWidth, " ", height, "\" style=\"width:", kWidth,
                           "px\" role=\"img\"><text x=\"0\" y=\"17\" class=\"title\">",
                           html_escape(title), "</text>");
  int y = kTop;
  for (const Bar& bar : bars) {
    const double length = most > 0 ? std::max(0.0, bar.value) / most * kLength : 0;
    svg += concat("<text x=\"", kName - 6, "\" y=\"", y + 13, "\" class=\"end\">",
                  html_escape(bar.name), "</text><rect x=\"", kName, "\" y=\"", y + 3,
                  "\" width=\"", short_number(std::round(10 * length) / 10), "\" height=\"",
                  kRow - 6, "\" fill=\"#005c96\"/><text x=\"", kName + static_cast<int>(length) + 6,
                  "\" y=\"", y + 13, "\">", short_number(bar.value), "</text>");
    y += kRow;
  }
  return svg + "</svg>\n";
}

}  // namespace mullion
