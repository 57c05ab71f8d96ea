// The cue task: ten classes of small noisy pictures that no local feature tells apart. A plain
// coloured patch, the cue, and two glyphs of different shapes and colours lie at three of the nine
// places of a 3×3 grid; the class is the shape of the glyph that has the cue's colour. Who sees
// only small parts knows no more than which two shapes are there.
#pragma once
#include <string>

#include "data/augment.h"
#include "data/dataset.h"

namespace mullion {

struct CueScene {
  Image image;
  int64_t label = 0;
};

struct CueOptions {
  int height = 32, width = 32;  // of the canvas, at least 32 each
  // A larger canvas shows the same scene of 32×32 somewhere on it; with `spread` the grid grows
  // with the canvas instead, the glyphs keep their size and the distances grow.
  bool spread = false;
  // Share of the scenes in which the glyph that counts is alone, so that its shape can be learned
  // before the cue is understood. The task itself has none.
  double alone = 0;
};

constexpr int kCueClasses = 10;
const std::vector<std::string>& cue_class_names();

// Scene `index` of a seed; the same numbers give the same objects on any canvas.
CueScene cue_scene(const CueOptions& options, uint64_t seed, uint64_t index);

// Generated on the fly. `fresh`: every epoch has scenes of its own.
class CueDataset : public Dataset {
 public:
  // With `lessons` L, the share of scenes with a single glyph is 1 in the first epoch and falls
  // evenly to 0, which it has from epoch L on.
  CueDataset(const CueOptions& options, int64_t size, uint64_t seed, bool fresh,
             int64_t lessons = 0);
  int64_t size() const override { return size_; }
  int num_classes() const override { return kCueClasses; }
  SampleShape shape() const override { return {options_.height, options_.width}; }
  int64_t load(const SampleKey& key, float* out) const override;
  // Mean 0.5 and standard deviation 0.25 in each channel; use it for pictures read from files too.
  static Normalization normalization();

 private:
  CueOptions options_;
  int64_t size_;
  uint64_t seed_;
  bool fresh_;
  int64_t lessons_;
};

// Writes root/CLASS/NNNNN.png until each class has `per_class` pictures: an ImageFolder tree.
void write_cue_folder(const std::string& root, const CueOptions& options, int per_class,
                      uint64_t seed);

}  // namespace mullion
