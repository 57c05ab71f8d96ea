// Line charts as SVG text, which stands in an HTML page as it is and prints at any size.
#pragma once
#include <string>
#include <utility>
#include <vector>

namespace mullion {

struct Series {
  std::string name;  // in the legend; empty: not there
  std::vector<std::pair<double, double>> points;
  size_t colour = 0;     // place in the palette, modulo its length
  bool faint = false;    // a thin pale line, e.g. raw values behind smoothed ones
  bool markers = false;  // a dot at each point, for few points
};

struct Chart {
  std::string title, x_label, y_label;
  bool log_x = false, log_y = false;  // values of 0 and below are left out then
  std::vector<Series> series;
};

// Points that are not finite are left out; long series are thinned to what the width can show.
// Empty where no point is left.
std::string svg_chart(const Chart& chart);

// Exponential moving average whose first values are not pulled towards 0: each is divided by
// 1 - decay^n (Kingma and Ba 2014, section 3).
std::vector<std::pair<double, double>> smoothed(
    const std::vector<std::pair<double, double>>& points, double decay);

// Round values that cover [low, high], about `count` of them; on a log scale 1, 2, 5 times a power
// of ten.
std::vector<double> chart_ticks(double low, double high, int count, bool logarithmic);

std::string short_number(double value);  // "0.0015", "12.3", "4,096"
std::string html_escape(const std::string& text);

}  // namespace mullion
