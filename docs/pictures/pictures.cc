// Draws the pictures of docs/papers.md as SVG into a folder (first argument): from the predicate
// and the kernels that the models use, so that they show what the code does. A test compares them
// with the files in this folder.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <sstream>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "tensor/attention_pattern.h"
#include "tensor/kernel_args/msa_conv.h"

using namespace mullion;

namespace {

constexpr int kCell = 6, kGap = 24, kTitle = 18;

// Colour by cell (row, column); an empty string leaves the ground.
using Colours = std::function<std::string(int row, int column)>;
struct Panel {
  std::string title;
  int rows, columns;
  Colours colour;
};

const char* const kSeen = "#005c96";
const char* const kSelf = "#d55e00";
const char* const kGround = "#f2f1ec";
// By the number of layers after which something is seen: 0 (the place itself) to 4.
const char* const kLayers[] = {"#d55e00", "#003a5d", "#2f7fb5", "#7db6da", "#c3deee"};

// Panels side by side, each a grid of cells; neighbours of one colour in a row are one rectangle.
std::string drawing(const std::vector<Panel>& panels) {
  std::ostringstream body;
  int x = 0, height = 0;
  for (const Panel& panel : panels) {
    const int width = panel.columns * kCell;
    body << "<text x=\"" << x << "\" y=\"12\">" << panel.title << "</text>\n<rect x=\"" << x
         << "\" y=\"" << kTitle << "\" width=\"" << width << "\" height=\"" << panel.rows * kCell
         << "\" fill=\"" << kGround << "\"/>\n";
    for (int row = 0; row < panel.rows; ++row)
      for (int column = 0; column < panel.columns;) {
        const std::string colour = panel.colour(row, column);
        int end = column + 1;
        while (end < panel.columns && panel.colour(row, end) == colour) ++end;
        if (!colour.empty())
          body << "<rect x=\"" << x + column * kCell << "\" y=\"" << kTitle + row * kCell
               << "\" width=\"" << (end - column) * kCell << "\" height=\"" << kCell << "\" fill=\""
               << colour << "\"/>\n";
        column = end;
      }
    height = std::max(height, kTitle + panel.rows * kCell);
    x += width + kGap;
  }
  std::ostringstream svg;
  svg << "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" << x - kGap << "\" height=\""
      << height << "\" font-family=\"sans-serif\" font-size=\"11\">\n"
      << body.str() << "</svg>\n";
  return svg.str();
}

// ---- SF-Attn: 32 tokens, 4 heads, segments of 8

constexpr int kTokens = 32, kHeads = 4;

AttentionPattern pattern_of(const std::string& name, int64_t sinks = -1) {
  return make_pattern(name, {.n_heads = kHeads, .context = kTokens, .sinks = sinks});
}

// Row: the token that asks; column: the token asked.
Panel seen_by(const std::string& title, const AttentionPattern& pattern, int64_t head) {
  return {title, kTokens, kTokens, [=](int i, int j) -> std::string {
            return i == j ? kSelf : visible(pattern, head, i, j) ? kSeen : "";
          }};
}

// The number of layers after which token i knows of token j; 9 where never within four.
Panel reach_of(const std::string& title, const AttentionPattern& pattern) {
  std::vector<int> layers(kTokens * kTokens, 9);
  for (int i = 0; i < kTokens; ++i) layers[i * kTokens + i] = 0;
  for (int layer = 1; layer <= 4; ++layer) {
    const std::vector<int> before = layers;
    for (int i = 0; i < kTokens; ++i)
      for (int j = 0; j < kTokens; ++j)
        for (int64_t head = 0; head < kHeads; ++head)
          if (visible(pattern, head, i, j))  // i takes over all that j knew
            for (int k = 0; k < kTokens; ++k)
              if (before[j * kTokens + k] < layer && layers[i * kTokens + k] > layer)
                layers[i * kTokens + k] = layer;
  }
  return {title, kTokens, kTokens, [=](int i, int j) -> std::string {
            const int n = layers[i * kTokens + j];
            return n < 5 ? kLayers[n] : "";
          }};
}

// ---- MSA-Conv on a map of 32 x 32

constexpr int kMap = 32;

MsaConvGeometry window(bool shifted) {
  MsaConvGeometry geometry;
  geometry.heads = 4, geometry.head_dim = 1;
  geometry.kernel_h = geometry.kernel_w = 5;
  geometry.border = MsaBorder::masked;
  if (shifted) geometry.shift = MsaShift::directions, geometry.shift_size = 5;
  return geometry;
}

// Which pixels of the input change one pixel of the output: where its gradient is not zero.
std::vector<bool> field(const std::function<Tensor(const Tensor&)>& layers, int y, int x,
                        int64_t channel = -1) {
  std::vector<float> values;
  for (int i = 0; i < kMap * kMap * 4; ++i)
    values.push_back(0.1f + static_cast<float>(i * 7919 % 101) / 101.f);  // any positive numbers
  const Tensor input = Tensor::from(values, {1, kMap, kMap, 4});
  set_requires_grad(input, true);
  Tensor pixel = layers(input);
  pixel = slice(slice(pixel, 1, y, y + 1), 2, x, x + 1);
  if (channel >= 0) pixel = slice(pixel, 3, channel, channel + 1);
  backward(sum(pixel));
  const auto gradient = grad(input).to_vector<float>();
  std::vector<bool> seen(kMap * kMap);
  for (int i = 0; i < kMap * kMap * 4; ++i)
    if (gradient[i] != 0) seen[i / 4] = true;
  return seen;
}

Panel field_panel(const std::string& title, const std::vector<std::vector<bool>>& by_layer, int y,
                  int x) {
  return {title, kMap, kMap, [=](int row, int column) -> std::string {
            if (row == y && column == x) return kSelf;
            for (size_t n = 0; n < by_layer.size(); ++n)
              if (by_layer[n][row * kMap + column]) return kLayers[n + 1];
            return "";
          }};
}

Panel window_panel(const std::string& title, const MsaConvGeometry& geometry, int y, int x,
                   int64_t head = -1) {
  const auto layer = [&](const Tensor& map) { return msa_conv(map, map, map, geometry); };
  return field_panel(title, {field(layer, y, x, head)}, y, x);
}

// Fields after one to three layers; every second one shifted, and the map halved after each where
// asked for.
Panel layers_panel(const std::string& title, bool shift, bool pool) {
  std::vector<std::vector<bool>> by_layer;
  for (int count = 1; count <= 3; ++count) {
    const auto layers = [&](Tensor map) {
      for (int n = 0; n < count; ++n) {
        if (pool && n > 0)
          map = avg_pool(map, 2);  // every pixel counts; max would show one of four
        map = msa_conv(map, map, map, window(shift && n % 2 == 1));
      }
      return map;
    };
    const int scale = pool ? 1 << (count - 1) : 1;
    by_layer.push_back(field(layers, 16 / scale, 16 / scale));
  }
  return field_panel(title, by_layer, 16, 16);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: docs_pictures FOLDER\n";
    return 2;
  }
  const AttentionPattern full = pattern_of("full"), s2 = pattern_of("s2"), sf = pattern_of("sf");
  AttentionPattern windows = s2;
  windows.first_shifted_in = windows.first_shifted_out = kHeads;
  MsaConvGeometry dilated = window(false);
  dilated.dilation = 2;
  const std::vector<std::pair<std::string, std::vector<Panel>>> pictures = {
      {"sf_attention",
       {seen_by("full attention", full, 0), seen_by("windows", windows, 0),
        seen_by("a shifted head (S2)", s2, 3), seen_by("SF, heads 1 to 3", sf, 0),
        seen_by("SF, the last head", sf, 3)}},
      {"sf_reach",
       {reach_of("windows", windows), reach_of("S2", s2), reach_of("SF", sf),
        reach_of("full attention", full)}},
      {"msa_conv_window",
       {window_panel("5 x 5, inside", window(false), 16, 16),
        window_panel("in a corner", window(false), 0, 0),
        window_panel("dilation 2", dilated, 16, 16)}},
      {"msa_conv_shift",
       {window_panel("shifted, head 1", window(true), 16, 16, 0),
        window_panel("head 2", window(true), 16, 16, 1),
        window_panel("head 3", window(true), 16, 16, 2),
        window_panel("head 4", window(true), 16, 16, 3),
        window_panel("all heads", window(true), 16, 16)}},
      {"msa_conv_reach",
       {layers_panel("windows", false, false), layers_panel("shift", true, false),
        layers_panel("pooling", false, true), layers_panel("both", true, true)}},
  };
  for (const auto& [name, panels] : pictures)
    std::ofstream(std::filesystem::path(argv[1]) / (name + ".svg")) << drawing(panels);
}
