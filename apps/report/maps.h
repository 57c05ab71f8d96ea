// Pictures of evaluations: shares from 0 to 1 over two axes, and bars.
#pragma once
#include <string>
#include <vector>

#include "apps/report/document.h"

namespace mullion {

// A cell of a map: its share, or none where it was not measured.
struct MapCell {
  double across = 0, down = 0, share = 0;
  bool measured = true;
};
// Accuracy by length (across) and depth (down, %): blue is 1, orange 0, grey not measured.
Picture heat_map(const std::string& title, const std::vector<MapCell>& cells);
extern const char kHeatMapColours[];

// Which tokens of a prompt a cache holds: a strip a layer, from the first token (left) on, the
// darker the more of its KV heads hold it. kept[layer][token]: heads that hold it, of `heads`.
Picture kept_strips(const std::string& caption, const std::vector<std::vector<int>>& kept,
                    int heads);

// Horizontal bars as SVG, names at the left, values at their ends; empty without bars.
struct Bar {
  std::string name;
  double value = 0;
};
std::string svg_bars(const std::string& title, const std::vector<Bar>& bars);

}  // namespace mullion
