// Which class each of ImageNet's validation images has, from the lists that are about.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace mullion {

// Whether a name is a WordNet id: "n" and eight digits.
bool is_wnid(std::string_view text);

// What a list says before the classes of the training images are known.
struct ValLabels {
  std::string name;                // of the file
  std::vector<std::string> wnids;  // a WordNet id an image, or
  std::vector<int64_t> places;     //   a place among the sorted classes
  // The class of each image. `classes`: those of the training images, sorted. Throws bad_file for
  // labels that are none of them, and for a class without an image.
  std::vector<std::string> of(const std::vector<std::string>& classes) const;
};

// Element n − 1 is of ILSVRC2012_val_n.JPEG. `file` is one of: a WordNet id a line;
// LOC_val_solution.csv of Kaggle; a number a line, which are places among the sorted classes if
// there is a 0 among them, and else ILSVRC's own ids from 1, which mean nothing without the map
// that the devkit has (`class_map`: map_clsloc.txt, lines "n02119789 1 kit_fox"; "": none). Throws
// bad_file with the line that is wrong, and usage for a map that the labels do not need.
ValLabels read_val_labels(const std::filesystem::path& file,
                          const std::filesystem::path& class_map);
// The same from the official devkit, ILSVRC2012_devkit_t12.tar.gz: its ids and the table of them,
// meta.mat.
ValLabels read_devkit_labels(const std::filesystem::path& devkit);

}  // namespace mullion
