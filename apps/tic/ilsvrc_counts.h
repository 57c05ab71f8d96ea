// How many images ILSVRC2012's classes have.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace mullion {

constexpr size_t kIlsvrcClasses = 1000;

// Images of each class.
using ClassCounts = std::map<std::string, int64_t>;

// Whether these are as many classes and validation images as ILSVRC2012 has, so that its order of
// validation labels can be expected too.
bool is_whole_ilsvrc(size_t classes, size_t val_images);
// Where the counts are others than ILSVRC2012's, a sentence each: the numbers of classes and
// images, and, where the classes are 1,000, the images of each: 732 to 1,300 for training and 50
// for validation.
std::vector<std::string> ilsvrc_count_doubts(const ClassCounts& train, const ClassCounts& val);

}  // namespace mullion
