// Places, colours and shapes drawn from (seed, epoch, index), painted, then noise over all.
#include "data/cue_task.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>

#include "data/png.h"
#include "tensor/check.h"
#include "tensor/io/file_ops.h"

namespace mullion {
namespace {

constexpr int kScene = 32, kGlyph = 5, kCue = 4, kPitch = 10;
constexpr int kBackground = 96, kNoise = 96;  // grey level and width of the noise around it

// No glyph is a mirror image of another, so that mirroring keeps the class.
struct Glyph {
  const char* name;
  std::array<uint8_t, kGlyph> rows;  // bit 4 is the left column
};
constexpr std::array<Glyph, kCueClasses> kGlyphs = {{
    {"plus", {0b00100, 0b00100, 0b11111, 0b00100, 0b00100}},
    {"cross", {0b10001, 0b01010, 0b00100, 0b01010, 0b10001}},
    {"ring", {0b11111, 0b10001, 0b10001, 0b10001, 0b11111}},
    {"tee", {0b11111, 0b00100, 0b00100, 0b00100, 0b00100}},
    {"corner", {0b10000, 0b10000, 0b10000, 0b10000, 0b11111}},
    {"aitch", {0b10001, 0b10001, 0b11111, 0b10001, 0b10001}},
    {"zed", {0b11111, 0b00010, 0b00100, 0b01000, 0b11111}},
    {"diamond", {0b00100, 0b01110, 0b11111, 0b01110, 0b00100}},
    {"comb", {0b11111, 0b10000, 0b11111, 0b10000, 0b11111}},
    {"fork", {0b10001, 0b10001, 0b01110, 0b00100, 0b00100}},
}};

constexpr uint8_t kColours[6][3] = {{230, 40, 40},  {40, 210, 60},  {50, 80, 235},
                                    {230, 210, 40}, {215, 60, 215}, {40, 210, 215}};

struct Placed {
  int x, y;
};

// A place in cell (column, row), 1 to 5 pixels from the cell's corner.
Placed place_in(int cell, const CueOptions& options, Placed origin, Philox& random) {
  const int column = cell % 3, row = cell / 3;
  const int dx = 1 + static_cast<int>(random.below(5)), dy = 1 + static_cast<int>(random.below(5));
  if (!options.spread) return {origin.x + column * kPitch + dx, origin.y + row * kPitch + dy};
  const int gap_x = (options.width - kScene) / 2, gap_y = (options.height - kScene) / 2;
  return {column * (kPitch + gap_x) + dx, row * (kPitch + gap_y) + dy};
}

void paint(Image& image, int x, int y, const uint8_t* colour) {
  std::copy_n(colour, 3, image.row(y) + 3 * x);
}

void draw_glyph(Image& image, const Glyph& glyph, Placed at, uint32_t mirror,
                const uint8_t* colour) {
  for (int y = 0; y < kGlyph; ++y) {
    for (int x = 0; x < kGlyph; ++x) {
      const int gx = mirror & 1 ? kGlyph - 1 - x : x, gy = mirror & 2 ? kGlyph - 1 - y : y;
      if (glyph.rows[static_cast<size_t>(gy)] >> (kGlyph - 1 - gx) & 1) {
        paint(image, at.x + x, at.y + y, colour);
      }
    }
  }
}

void fill_noise(Image& image, uint64_t seed, uint64_t stream) {
  uint64_t block = 0;
  for (size_t i = 0; i < image.pixels.size(); i += 16) {
    const PhiloxBlock bits = philox(seed, stream, block++);
    for (size_t k = i; k < std::min(i + 16, image.pixels.size()); ++k) {
      const uint32_t byte = bits.v[(k - i) / 4] >> (8 * ((k - i) % 4)) & 255;
      image.pixels[k] =
          static_cast<uint8_t>(kBackground - kNoise / 2 + static_cast<int>(byte * kNoise / 256));
    }
  }
}

// The first n of `count` numbers in random order.
template <size_t count>
std::array<int, count> shuffled(Philox& random) {
  std::array<int, count> order;
  for (size_t i = 0; i < count; ++i) order[i] = static_cast<int>(i);
  for (size_t i = count - 1; i > 0; --i) {
    std::swap(order[i], order[random.below(static_cast<uint32_t>(i + 1))]);
  }
  return order;
}

}  // namespace

const std::vector<std::string>& cue_class_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (size_t i = 0; i < kGlyphs.size(); ++i) {
      list.push_back(concat(i, "-", kGlyphs[i].name));
    }
    return list;
  }();
  return names;
}

namespace {
void require_canvas(const CueOptions& options) {
  CHECK_AS(Fault::usage, options.height >= kScene && options.width >= kScene,
           "cue task: canvas of ", options.height, "x", options.width, " (--img-size), at least ",
           kScene, "x", kScene, " is needed");
}
}  // namespace

CueScene cue_scene(const CueOptions& options, uint64_t seed, uint64_t index) {
  require_canvas(options);
  const uint64_t stream = mix_bits(index, static_cast<uint64_t>(Purpose::scene));
  Philox random{seed, stream, 0};
  const auto cells = shuffled<9>(random);
  auto shapes = shuffled<kCueClasses>(random);
  // Classes take turns, so that a batch of neighbours has as many of each.
  const int label = static_cast<int>(index % kCueClasses);
  std::swap(shapes[0], *std::find(shapes.begin(), shapes.end(), label));
  const auto colours = shuffled<6>(random);
  const Placed origin = {
      static_cast<int>(random.below(static_cast<uint32_t>(options.width - kScene + 1))),
      static_cast<int>(random.below(static_cast<uint32_t>(options.height - kScene + 1)))};
  CueScene scene;
  scene.label = shapes[0];
  scene.image.resize(options.width, options.height);
  fill_noise(scene.image, seed, mix_bits(stream, 1));
  // Of a stream of its own: what is left out changes nothing else.
  const bool alone = philox(seed, mix_bits(stream, 2), 0).v[0] < options.alone * 0x1p32;
  for (size_t i = 0; i < 2; ++i) {  // the glyph that counts, then the other one
    const Placed at = place_in(cells[i], options, origin, random);
    const uint32_t mirror = random.below(4);
    if (i == 1 && alone) continue;
    draw_glyph(scene.image, kGlyphs[static_cast<size_t>(shapes[i])], at, mirror,
               kColours[colours[i]]);
  }
  const Placed cue = place_in(cells[2], options, origin, random);
  for (int y = 0; y < kCue; ++y) {
    for (int x = 0; x < kCue; ++x) paint(scene.image, cue.x + x, cue.y + y, kColours[colours[0]]);
  }
  return scene;
}

CueDataset::CueDataset(const CueOptions& options, int64_t size, uint64_t seed, bool fresh,
                       int64_t lessons)
    : options_(options), size_(size), seed_(seed), fresh_(fresh), lessons_(lessons) {
  CHECK_AS(Fault::usage, size > 0, "cue task: data set of ", size);
  require_canvas(options);
}

Normalization CueDataset::normalization() { return {{0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f}}; }

int64_t CueDataset::load(const SampleKey& key, float* out) const {
  const int64_t number = fresh_ ? key.epoch * size_ + key.index : key.index;
  CueOptions options = options_;
  if (key.epoch < lessons_)
    options.alone = 1 - static_cast<double>(key.epoch) / static_cast<double>(lessons_);
  const CueScene scene = cue_scene(options, seed_, static_cast<uint64_t>(number));
  const PixelMap map = normalization().map();
  const std::vector<uint8_t>& levels = scene.image.pixels;
  for (size_t i = 0; i < levels.size(); i += 3) {
    for (size_t c = 0; c < 3; ++c) out[i + c] = levels[i + c] * map.scale[c] + map.bias[c];
  }
  return scene.label;
}

void write_cue_folder(const std::string& root, const CueOptions& options, int per_class,
                      uint64_t seed) {
  namespace fs = std::filesystem;
  for (const std::string& name : cue_class_names()) make_folders(fs::path(root) / name);
  std::array<int, kCueClasses> written{};
  int left = per_class * kCueClasses;
  for (uint64_t index = 0; left > 0; ++index) {
    const CueScene scene = cue_scene(options, seed, index);
    int& count = written[static_cast<size_t>(scene.label)];
    if (count == per_class) continue;
    char name[32];
    std::snprintf(name, sizeof name, "%05d.png", count);
    const fs::path folder = fs::path(root) / cue_class_names()[static_cast<size_t>(scene.label)];
    write_png(folder / name, scene.image);
    ++count, --left;
  }
}

}  // namespace mullion
