// The counts of the challenge's own page (image-net.org, ILSVRC2012).
#include "apps/tic/ilsvrc_counts.h"

#include "data/image_source.h"
#include "tensor/check.h"

namespace mullion {
namespace {

constexpr int64_t kTrainImages = 1281167, kValImages = 50000;
constexpr int64_t kLeastTrain = 732, kMostTrain = 1300, kValOfClass = 50;

int64_t sum(const ClassCounts& counts) {
  int64_t all = 0;
  for (const auto& [name, count] : counts) all += count;
  return all;
}

// Classes with another number of images than from `least` to `most`.
void add_classes(const ClassCounts& counts, int64_t least, int64_t most, const std::string& what,
                 std::vector<std::string>& doubts) {
  std::vector<std::string> others;
  for (const auto& [name, count] : counts)
    if (count < least || count > most) others.push_back(concat(name, " ", count));
  if (others.empty()) return;
  doubts.push_back(concat(others.size(), " classes have another number of ", what,
                          " images than ILSVRC2012's, ", least,
                          least == most ? "" : concat(" to ", most), ": ", listing(others)));
}

}  // namespace

bool is_whole_ilsvrc(size_t classes, size_t val_images) {
  return classes == kIlsvrcClasses && val_images == static_cast<size_t>(kValImages);
}

std::vector<std::string> ilsvrc_count_doubts(const ClassCounts& train, const ClassCounts& val) {
  std::vector<std::string> doubts;
  if (train.size() != kIlsvrcClasses || sum(train) != kTrainImages || sum(val) != kValImages)
    doubts.push_back(concat("ILSVRC2012 has ", kIlsvrcClasses, " classes, ", kTrainImages,
                            " training and ", kValImages, " validation images; these are ",
                            train.size(), ", ", sum(train), " and ", sum(val)));
  if (train.size() == kIlsvrcClasses) {
    add_classes(train, kLeastTrain, kMostTrain, "training", doubts);
    add_classes(val, kValOfClass, kValOfClass, "validation", doubts);
  }
  return doubts;
}

}  // namespace mullion
