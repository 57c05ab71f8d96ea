// File to sample, by the transform of training or of evaluation.
#include "data/image_source.h"

#include <algorithm>
#include <filesystem>

#include "tensor/check.h"
#include "tensor/io/sha256.h"
#include "tensor/words.h"

namespace mullion {

std::string listing(const std::vector<std::string>& names) {
  std::string out =
      joined(std::span(names).first(std::min<size_t>(names.size(), 10)), ", ", printable);
  if (names.size() > 10) out += concat(" and ", names.size() - 10, " more");
  return out;
}

std::vector<std::string> ImageSource::file_names() const {
  std::vector<std::string> names;
  for (int64_t i = 0; i < size(); ++i)
    names.push_back(std::filesystem::path(path(i)).filename().string());
  return names;
}

std::string digest(const ImageSource& source) {
  Sha256 hash;
  for (int64_t i = 0; i < source.size(); ++i) {
    std::string path = source.path(i);
    if (path.starts_with(source.root())) path.erase(0, source.root().size());
    hash.update(concat(path.size(), " ", path, " ", source.label(i), " ", source.bytes(i), "\n"));
  }
  return hash.hex();
}

ImageDataset::ImageDataset(std::shared_ptr<const ImageSource> source,
                           const TrainTransform& transform, ExifUse exif)
    : source_(std::move(source)), transform_(transform), exif_(exif), notes_(source_->size()) {}

ImageDataset::ImageDataset(std::shared_ptr<const ImageSource> source,
                           const EvalTransform& transform, ExifUse exif)
    : source_(std::move(source)), transform_(transform), exif_(exif), notes_(source_->size()) {}

SampleShape ImageDataset::shape() const {
  if (const auto* train = std::get_if<TrainTransform>(&transform_))
    return {train->height(), train->width()};
  const auto& eval = std::get<EvalTransform>(transform_);
  return {eval.height, eval.width};
}

int64_t ImageDataset::load(const SampleKey& key, float* out) const {
  thread_local std::vector<uint8_t> bytes;
  thread_local TransformScratch scratch;
  const std::string path = source_->path(key.index);
  source_->read(key.index, bytes);
  const EncodedImage image(bytes, path, {}, exif_);
  bool enlarged = false;
  if (const auto* train = std::get_if<TrainTransform>(&transform_)) {
    train->apply(image, key, scratch, out);
  } else {
    enlarged = apply(std::get<EvalTransform>(transform_), image, scratch, out);
  }
  NoteSet notes = image.notes();
  if (enlarged) notes.add(ImageNote::enlarged);
  notes_.add(notes, key.index, path);
  return source_->label(key.index);
}

}  // namespace mullion
