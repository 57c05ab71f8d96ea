// Some of the images of a source, by a list of their paths.
#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/image_source.h"

namespace mullion {

// Calls use(path, line) for each line of a text file of paths that is not empty; lines from 1.
void each_listed_path(const std::filesystem::path& list,
                      const std::function<void(const std::string& path, int64_t line)>& use);

class ImageSubset : public ImageSource {
 public:
  // `list`: a text file with a path a line, as from here or as from the source's folder. Error
  // (bad_file) with file and line for an image that the source does not have, or that comes twice.
  ImageSubset(std::shared_ptr<const ImageSource> all, const std::filesystem::path& list);

  int64_t size() const override { return std::ssize(places_); }
  const std::string& root() const override { return all_->root(); }
  const std::vector<std::string>& classes() const override { return all_->classes(); }
  int64_t label(int64_t index) const override { return all_->label(place(index)); }
  std::string path(int64_t index) const override { return all_->path(place(index)); }
  std::vector<std::string> file_names() const override;
  void read(int64_t index, std::vector<uint8_t>& out) const override {
    all_->read(place(index), out);
  }
  int64_t bytes(int64_t index) const override { return all_->bytes(place(index)); }
  std::string describe() const override { return all_->describe() + ", by a list"; }
  const std::vector<std::string>& absent_classes() const override { return none_; }
  const std::vector<NotTaken>& not_taken() const override { return all_->not_taken(); }
  const std::vector<std::string>& doubts() const override { return all_->doubts(); }

 private:
  int64_t place(int64_t index) const { return places_[static_cast<size_t>(index)]; }

  std::shared_ptr<const ImageSource> all_;
  std::vector<int64_t> places_;  // ascending
  std::vector<std::string> none_;
};

}  // namespace mullion
