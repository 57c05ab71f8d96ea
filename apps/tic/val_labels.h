// Which class each of ImageNet's validation images has, from the lists that are about.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace mullion {

// Whether a name is a WordNet id: "n" and eight digits.
bool is_wnid(std::string_view text);

// Element n − 1 is the class (WordNet id) of ILSVRC2012_val_n.JPEG. `file` is one of: a WordNet id
// a line; LOC_val_solution.csv of Kaggle; a number a line, which are places among the sorted
// classes if there is a 0 among them, and else ILSVRC's own ids from 1, which mean nothing without
// the map that the devkit has (`class_map`: map_clsloc.txt, lines "n02119789 1 kit_fox"; "": none).
// `classes`: those of the training images, sorted. Throws bad_file with the line that is wrong, and
// for a class without an image.
std::vector<std::string> read_val_labels(const std::filesystem::path& file,
                                         const std::filesystem::path& class_map,
                                         const std::vector<std::string>& classes);
// The same from the official devkit, ILSVRC2012_devkit_t12.tar.gz: its ids and the table of them,
// meta.mat.
std::vector<std::string> read_devkit_labels(const std::filesystem::path& devkit,
                                            const std::vector<std::string>& classes);

}  // namespace mullion
