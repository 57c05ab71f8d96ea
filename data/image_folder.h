// ImageFolder trees: root/CLASS/.../picture. The classes are the folders directly below the root in
// byte order, whatever the locale or the file system says; all pictures below one, at any depth,
// are its samples, in byte order of their paths. Files count by extension (.jpg .jpeg .png, any
// case), names starting with '.' do not; what a file is, its bytes decide later. What stands in the
// tree and is not taken is counted by kind.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "data/augment.h"
#include "data/dataset.h"
#include "data/image_notes.h"

namespace mullion {

struct FolderOptions {
  // The classes of the training set, for a validation tree: labels are places in this list and a
  // folder that is not in it is an error.
  const std::vector<std::string>* classes = nullptr;
  // Links to folders and files count as what they lead to, in the tree or outside; false: they are
  // not taken.
  bool follow_links = true;
};

// Entries of one kind that were not taken.
struct NotTaken {
  std::string kind;  // ".webp", "hidden", "broken link", ...
  int64_t count = 0;
  std::string example;   // the first one's path below the root
  bool picture = false;  // an image kind that is not read, so that a sample may be missing
};

class ImageFolder {
 public:
  // Throws bad_file, with the list of what is wrong, for a root without class folders, a class
  // without pictures, a class that is not in options.classes, and class names that are not UTF-8
  // (they are saved with a model).
  explicit ImageFolder(const std::string& root, const FolderOptions& options = {});

  int64_t size() const { return static_cast<int64_t>(samples_.size()); }
  const std::string& root() const { return root_; }
  const std::vector<std::string>& classes() const { return classes_; }
  // Those of options.classes that have no folder here.
  const std::vector<std::string>& absent_classes() const { return absent_; }
  std::string path(int64_t index) const;  // root included
  int64_t label(int64_t index) const { return samples_[static_cast<size_t>(index)].label; }

  const std::vector<NotTaken>& not_taken() const { return not_taken_; }
  // What may be a mistake: class names that differ only by case or normal form, folders that belong
  // to two classes.
  const std::vector<std::string>& doubts() const { return doubts_; }

 private:
  struct Sample {
    std::string name;  // below the class folder
    int32_t label, folder;
  };
  std::string root_;
  std::vector<std::string> classes_, folders_, absent_, doubts_;
  std::vector<Sample> samples_;
  std::vector<NotTaken> not_taken_;
};

// Names for a message: at most ten, then how many more.
std::string listing(const std::vector<std::string>& names);

// The folder's pictures through a transform of training or of evaluation.
class ImageFolderDataset : public Dataset {
 public:
  ImageFolderDataset(std::shared_ptr<const ImageFolder> folder, const TrainTransform& transform,
                     ExifUse exif = ExifUse::ignore);
  ImageFolderDataset(std::shared_ptr<const ImageFolder> folder, const EvalTransform& transform,
                     ExifUse exif = ExifUse::ignore);
  int64_t size() const override { return folder_->size(); }
  int num_classes() const override { return static_cast<int>(folder_->classes().size()); }
  SampleShape shape() const override;
  int64_t load(const SampleKey& key, float* out) const override;
  std::vector<NoteCount> notes() const override { return notes_.counts(); }

 private:
  std::shared_ptr<const ImageFolder> folder_;
  TrainTransform train_;
  EvalTransform eval_;
  bool training_;
  ExifUse exif_;
  mutable NoteCounter notes_;
};

}  // namespace mullion
