// Paths looked up in a map of all the source's; order and duplicates are those of the source.
#include "data/image_subset.h"

#include <algorithm>
#include <map>
#include <sstream>

#include "tensor/check.h"
#include "tensor/io/file.h"

namespace mullion {

void each_listed_path(const std::filesystem::path& list,
                      const std::function<void(const std::string& path, int64_t line)>& use) {
  std::istringstream lines(read_whole_file(list, uint64_t{1} << 30));
  int64_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) use(line, number);
  }
}

ImageSubset::ImageSubset(std::shared_ptr<const ImageSource> all, const std::filesystem::path& list)
    : all_(std::move(all)) {
  std::map<std::string, int64_t> by_path;
  for (int64_t i = 0; i < all_->size(); ++i)
    by_path[std::filesystem::path(all_->path(i)).lexically_normal().string()] = i;
  each_listed_path(list, [&](const std::string& line, int64_t number) {
    const std::filesystem::path below = std::filesystem::path(all_->root()) / line;
    auto found = by_path.find(std::filesystem::path(line).lexically_normal().string());
    if (found == by_path.end()) found = by_path.find(below.lexically_normal().string());
    CHECK_AS(Fault::bad_file, found != by_path.end(), list.string(), ":", number, ": ", line,
             " is no image of ", all_->root());
    places_.push_back(found->second);
  });
  std::sort(places_.begin(), places_.end());
  const auto twice = std::adjacent_find(places_.begin(), places_.end());
  CHECK_AS(Fault::bad_file, twice == places_.end(), list.string(), ": ",
           twice == places_.end() ? "" : all_->path(*twice), " comes twice");
  CHECK_AS(Fault::bad_file, !places_.empty(), list.string(), ": names no image");
}

std::vector<std::string> ImageSubset::file_names() const {
  const std::vector<std::string> all = all_->file_names();
  std::vector<std::string> names;
  for (const int64_t place : places_) names.push_back(all[static_cast<size_t>(place)]);
  return names;
}

}  // namespace mullion
