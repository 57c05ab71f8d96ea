// ImageFolder trees: root/CLASS/.../picture. The classes are the folders directly below the root in
// byte order, whatever the locale or the file system says; all pictures below one, at any depth,
// are its samples, in byte order of their paths. Files count by extension (.jpg .jpeg .png, any
// case), names starting with '.' do not; what a file is, its bytes decide later.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "data/augment.h"
#include "data/dataset.h"

namespace mullion {

struct FolderOptions {
  // The classes of the training set, for a validation tree: labels are places in this list and a
  // folder that is not in it is an error.
  const std::vector<std::string>* classes = nullptr;
  bool links_outside = false;  // follow links that lead out of the root
};

class ImageFolder {
 public:
  // Throws bad_file, with the list of what is wrong, for a root without class folders, a class
  // without pictures, a class that is not in options.classes, and links that leave the root.
  explicit ImageFolder(const std::string& root, const FolderOptions& options = {});

  int64_t size() const { return static_cast<int64_t>(samples_.size()); }
  const std::string& root() const { return root_; }
  const std::vector<std::string>& classes() const { return classes_; }
  std::string path(int64_t index) const;  // root included
  int64_t label(int64_t index) const { return samples_[static_cast<size_t>(index)].label; }

 private:
  struct Sample {
    std::string name;  // below the class folder
    int32_t label, folder;
  };
  std::string root_;
  std::vector<std::string> classes_, folders_;
  std::vector<Sample> samples_;
};

// The folder's pictures through a transform of training or of evaluation.
class ImageFolderDataset : public Dataset {
 public:
  ImageFolderDataset(std::shared_ptr<const ImageFolder> folder, const TrainTransform& transform);
  ImageFolderDataset(std::shared_ptr<const ImageFolder> folder, const EvalTransform& transform);
  int64_t size() const override { return folder_->size(); }
  int num_classes() const override { return static_cast<int>(folder_->classes().size()); }
  SampleShape shape() const override;
  int64_t load(const SampleKey& key, float* out) const override;

 private:
  std::shared_ptr<const ImageFolder> folder_;
  TrainTransform train_;
  EvalTransform eval_;
  bool training_;
};

}  // namespace mullion
