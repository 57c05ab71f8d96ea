// ImageFolder trees: root/CLASS/.../picture. The classes are the folders directly below the root in
// byte order, whatever the locale or the file system says; all pictures below one, at any depth,
// are its samples, in byte order of their paths. Files count by extension (.jpg .jpeg .png, any
// case), names starting with '.' do not; what a file is, its bytes decide later. What stands in the
// tree and is not taken is counted by kind.
#pragma once
#include <string>
#include <vector>

#include "data/image_source.h"

namespace mullion {

struct FolderOptions {
  // The classes of the training set, for a validation tree: labels are places in this list and a
  // folder that is not in it is an error.
  const std::vector<std::string>* classes = nullptr;
  // Links to folders and files count as what they lead to, in the tree or outside; false: they are
  // not taken.
  bool follow_links = true;
};

class ImageFolder : public ImageSource {
 public:
  // Throws bad_file, with the list of what is wrong, for a root without class folders, a class
  // without pictures, a class that is not in options.classes, and class names that are not UTF-8
  // (they are saved with a model).
  explicit ImageFolder(const std::string& root, const FolderOptions& options = {});

  int64_t size() const override { return static_cast<int64_t>(samples_.size()); }
  const std::string& root() const override { return root_; }
  const std::vector<std::string>& classes() const override { return classes_; }
  // Those of options.classes that have no folder here.
  const std::vector<std::string>& absent_classes() const override { return absent_; }
  std::string path(int64_t index) const override;  // root included
  int64_t label(int64_t index) const override { return samples_[static_cast<size_t>(index)].label; }
  int64_t bytes(int64_t index) const override { return samples_[static_cast<size_t>(index)].bytes; }
  void read(int64_t index, std::vector<uint8_t>& out) const override {
    read_regular_file(path(index), out);
  }

  std::string describe() const override { return "class folders"; }
  const std::vector<NotTaken>& not_taken() const override { return not_taken_; }
  // Class names that differ only by case or normal form, folders that belong to two classes.
  const std::vector<std::string>& doubts() const override { return doubts_; }

 private:
  struct Sample {
    std::string name;  // below the class folder
    int64_t bytes;
    int32_t label, folder;
  };
  std::string root_;
  std::vector<std::string> classes_, folders_, absent_, doubts_;
  std::vector<Sample> samples_;
  std::vector<NotTaken> not_taken_;
};

}  // namespace mullion
