// Scales and ticks first, then curves, then a legend that is as wide as its longest name.
#include "apps/report/chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace mullion {
namespace {

// Okabe and Ito's colours, which the colour-blind can tell apart.
constexpr std::array<const char*, 8> kPalette = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                 "#e69f00", "#56b4e9", "#7f7f7f", "#000000"};
constexpr double kPlotWidth = 400, kHeight = 260, kTop = 28, kBottom = 40;
constexpr double kCharacter = 6.2;  // width of one at the size of labels, 11 px, rather too much
constexpr size_t kMostInLegend = 32;
constexpr size_t kMaxPoints = 400;

std::string text(const char* format, double a, double b) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, a, b);
  return buffer;
}

// One direction of the plot: values to pixels.
struct Axis {
  double low = INFINITY, high = -INFINITY;
  bool logarithmic = false;
  double begin = 0, end = 0;  // pixels of low and high

  bool shows(double value) const { return std::isfinite(value) && (!logarithmic || value > 0); }
  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  double scaled(double value) const { return logarithmic ? std::log(value) : value; }
  void settle() {
    // Values that differ by rounding alone are one value: steps between them would be too small
    // to count with.
    const double size = std::max(std::abs(low), std::abs(high));
    if (high - low <= 1e-6 * size) {
      const double room = size == 0 ? 1 : size * 0.1;
      if (!logarithmic) low -= room;
      high += room;
    }
  }
  double pixel(double value) const {
    const double share = (scaled(value) - scaled(low)) / (scaled(high) - scaled(low));
    return begin + share * (end - begin);
  }
};

// How wide a text is, about; UTF-8 counts by characters.
double width_of(const std::string& text) {
  const auto follows = [](char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; };
  return kCharacter * static_cast<double>(std::count_if(text.begin(), text.end(),
                                                        [&](char c) { return !follows(c); }));
}

// A name cut in its middle where it is too long for the legend.
std::string shortened(const std::string& name) {
  const auto letters = static_cast<size_t>(width_of(name) / kCharacter + 0.5);
  if (letters <= kMostInLegend || letters != name.size()) return name;
  return name.substr(0, kMostInLegend / 2) + "\u2026" +
         name.substr(name.size() - kMostInLegend / 2 + 1);
}

struct Plot {
  Axis x, y;
  double left = 0, right = 0, width = 0;  // edges of the plot; of the whole, with its legend
  bool legend = false;

  explicit Plot(const Chart& chart) {
    x = {.logarithmic = chart.log_x};
    y = {.logarithmic = chart.log_y, .begin = kHeight - kBottom, .end = kTop};
    for (const Series& series : chart.series) {
      for (const auto& [px, py] : series.points) {
        if (!x.shows(px) || !y.shows(py)) continue;
        x.include(px);
        y.include(py);
      }
    }
    if (empty()) return;
    x.settle();
    y.settle();
    make_room(chart);
  }
  bool empty() const { return !(x.low <= x.high); }

 private:
  // Left of the plot for its numbers and the label of y, right of it for the legend, or for the
  // half of the last number that stands out.
  void make_room(const Chart& chart) {
    double numbers = 0, names = 0;
    for (const double value : chart_ticks(y.low, y.high, 5, chart.log_y))
      numbers = std::max(numbers, width_of(short_number(value)));
    for (const Series& series : chart.series)
      names = std::max(names, width_of(shortened(series.name)));
    legend = names > 0;
    left = 28 + numbers;
    right = left + kPlotWidth;
    width = right + std::max(legend ? 30 + names : 0, width_of(short_number(x.high)) / 2 + 8);
    width = std::max(width, left + 1.3 * width_of(chart.title));
    x.begin = left;
    x.end = right;
  }
};

std::string grid(const Chart& chart, const Plot& plot) {
  std::string out;
  for (const double value : chart_ticks(plot.y.low, plot.y.high, 5, chart.log_y)) {
    const double at = plot.y.pixel(value);
    out += text("<path class=\"grid\" d=\"M%.1f %.1f", plot.left, at) +
           text("H%.1f\"/>", plot.right, 0);
    out += text("<text x=\"%.1f\" y=\"%.1f\" class=\"end\">", plot.left - 6, at + 4) +
           short_number(value) + "</text>";
  }
  for (const double value : chart_ticks(plot.x.low, plot.x.high, 6, chart.log_x)) {
    const double at = plot.x.pixel(value);
    out += text("<path class=\"grid\" d=\"M%.1f %.1f", at, kTop) +
           text("V%.1f\"/>", kHeight - kBottom, 0);
    out += text("<text x=\"%.1f\" y=\"%.1f\" class=\"mid\">", at, kHeight - kBottom + 16) +
           short_number(value) + "</text>";
  }
  return out;
}

// Of runs of neighbouring points one is kept, so that a long series costs no more than a short one.
std::string line_of(const Series& series, const Plot& plot, const char* colour) {
  const size_t stride = std::max<size_t>(1, (series.points.size() + kMaxPoints - 1) / kMaxPoints);
  std::string path, dots;
  for (size_t i = 0; i < series.points.size(); ++i) {
    const auto& [px, py] = series.points[i];
    const bool last = i + 1 == series.points.size();
    if ((i % stride != 0 && !last) || !plot.x.shows(px) || !plot.y.shows(py)) continue;
    path += text(path.empty() ? "M%.1f %.1f" : "L%.1f %.1f", plot.x.pixel(px), plot.y.pixel(py));
    if (series.markers) {
      dots += text("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\"", plot.x.pixel(px), plot.y.pixel(py)) +
              " fill=\"" + colour + "\"/>";
    }
  }
  if (path.empty()) return "";
  return "<path class=\"" + std::string(series.faint ? "faint" : "line") + "\" stroke=\"" + colour +
         "\" d=\"" + path + "\"/>" + dots;
}

// Beside the plot, where no curve is hidden by it.
std::string legend(const Chart& chart, const Plot& plot) {
  std::string out;
  double y = kTop + 10;
  for (const Series& series : chart.series) {
    if (series.name.empty()) continue;
    const char* colour = kPalette[series.colour % kPalette.size()];
    out += text("<rect x=\"%.1f\" y=\"%.1f\" width=\"10\" height=\"3\"", plot.right + 10, y - 5) +
           " fill=\"" + colour + "\"/>" + text("<text x=\"%.1f\" y=\"%.1f\">", plot.right + 24, y) +
           "<title>" + html_escape(series.name) + "</title>" + html_escape(shortened(series.name)) +
           "</text>";
    y += 14;
  }
  return out;
}

}  // namespace

std::string svg_chart(const Chart& chart) {
  const Plot plot(chart);
  if (plot.empty()) return "";
  std::string out = text("<svg viewBox=\"0 0 %.0f %.0f\"", plot.width, kHeight) +
                    text(" style=\"width:%.0fpx\" role=\"img\">", plot.width, 0);
  out += text("<text x=\"%.1f\" y=\"%.1f\" class=\"title\">", plot.left, 17) +
         html_escape(chart.title) + "</text>";
  out += grid(chart, plot);
  for (const Series& series : chart.series) {
    out += line_of(series, plot, kPalette[series.colour % kPalette.size()]);
  }
  out += text("<text x=\"%.1f\" y=\"%.1f\" class=\"mid\">", (plot.left + plot.right) / 2,
              kHeight - 6) +
         html_escape(chart.x_label) + "</text>";
  const double middle = (kTop + kHeight - kBottom) / 2;
  out += text("<text class=\"mid\" transform=\"translate(12 %.1f) rotate(-90)\">", middle, 0) +
         html_escape(chart.y_label) + "</text>";
  return out + legend(chart, plot) + "</svg>\n";
}

std::vector<std::pair<double, double>> smoothed(
    const std::vector<std::pair<double, double>>& points, double decay) {
  std::vector<std::pair<double, double>> out;
  double mean = 0, weight = 0;
  for (const auto& [x, y] : points) {
    if (!std::isfinite(y)) continue;
    mean = decay * mean + (1 - decay) * y;
    weight = decay * weight + (1 - decay);
    out.emplace_back(x, mean / weight);
  }
  return out;
}

std::vector<double> chart_ticks(double low, double high, int count, bool logarithmic) {
  std::vector<double> ticks;
  if (logarithmic) {
    for (double power = std::floor(std::log10(low)); power <= std::log10(high); ++power) {
      for (const double digit : {1.0, 2.0, 5.0}) {
        const double value = digit * std::pow(10, power);
        if (value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9)) ticks.push_back(value);
      }
    }
    return ticks;
  }
  const double raw = (high - low) / count, power = std::pow(10, std::floor(std::log10(raw)));
  const double step = power * (raw / power <= 1   ? 1
                               : raw / power <= 2 ? 2
                               : raw / power <= 5 ? 5
                                                  : 10);
  const double first = std::ceil(low / step - 1e-9);
  for (int i = 0; i <= 2 * count && (first + i) * step <= high + 1e-9 * step; ++i) {
    ticks.push_back((first + i) * step);
  }
  return ticks;
}

std::string short_number(double value) {
  char buffer[48];
  const double size = std::abs(value);
  if (value == std::floor(value) && size < 1e7) {
    std::string digits = std::to_string(static_cast<long long>(size));
    for (size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, ",");
    return (value < 0 ? "-" : "") + digits;
  }
  std::snprintf(buffer, sizeof buffer, size >= 0.001 && size < 1e7 ? "%.4g" : "%.1e", value);
  return buffer;
}

std::string html_escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

}  // namespace mullion
