// Where pictures come from: numbered files with classes, whatever holds them, and the data set of
// samples that transforms make of them.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "data/augmentation.h"
#include "data/dataset.h"
#include "data/image_notes.h"

namespace mullion {

// Entries of one kind that were not taken.
struct NotTaken {
  std::string kind;  // ".webp", "hidden", "broken link", ...
  int64_t count = 0;
  std::string example;   // the first one's path below the root
  bool picture = false;  // an image kind that is not read, so that a sample may be missing
};

class ImageSource {
 public:
  virtual ~ImageSource() = default;
  virtual int64_t size() const = 0;
  virtual const std::string& root() const = 0;  // the folder
  virtual const std::vector<std::string>& classes() const = 0;
  virtual int64_t label(int64_t index) const = 0;     // a place in classes()
  virtual std::string path(int64_t index) const = 0;  // for messages
  // The name of each picture's own file, without a folder.
  virtual std::vector<std::string> file_names() const;
  // The bytes of a picture's file; `out` keeps its memory from call to call. Called from several
  // threads at once. Throws bad_file.
  virtual void read(int64_t index, std::vector<uint8_t>& out) const = 0;
  // The size of a picture's file when the source was opened; -1: not known without reading it.
  virtual int64_t bytes(int64_t) const { return -1; }

  virtual std::string describe() const = 0;  // "class folders", "150 shards"
  // Classes that were expected and have no picture here.
  virtual const std::vector<std::string>& absent_classes() const = 0;
  virtual const std::vector<NotTaken>& not_taken() const = 0;
  // What may be a mistake, a sentence each.
  virtual const std::vector<std::string>& doubts() const = 0;
};

// SHA-256 of which pictures there are, by their places below the root, their labels and their
// sizes, in order. What they hold is not read.
std::string digest(const ImageSource& source);

// Names for a message: at most ten, then how many more.
std::string listing(const std::vector<std::string>& names);

// Pictures through a transform of training or of evaluation.
class ImageDataset : public Dataset {
 public:
  ImageDataset(std::shared_ptr<const ImageSource> source, const TrainTransform& transform,
               ExifUse exif = ExifUse::ignore);
  ImageDataset(std::shared_ptr<const ImageSource> source, const EvalTransform& transform,
               ExifUse exif = ExifUse::ignore);
  int64_t size() const override { return source_->size(); }
  int num_classes() const override { return static_cast<int>(source_->classes().size()); }
  SampleShape shape() const override;
  int64_t load(const SampleKey& key, float* out) const override;
  std::vector<NoteCount> notes() const override { return notes_.counts(); }

 private:
  std::shared_ptr<const ImageSource> source_;
  std::variant<TrainTransform, EvalTransform> transform_;
  ExifUse exif_;
  mutable NoteCounter notes_;
};

}  // namespace mullion
