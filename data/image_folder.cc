// The classes, the pictures of each, and names that look like the same class twice.
#include "data/image_folder.h"

#include <algorithm>
#include <cstdlib>
#include <map>

#ifdef MULLION_HAVE_UTF8PROC
#include <utf8proc.h>
#endif

#include "data/folder_walk.h"
#include "data/utf8.h"
#include "tensor/check.h"

namespace mullion {
namespace {

// What names have in common that differ only by case or by Unicode's normal form: an accent can be
// a part of its letter (NFC, as most systems write) or follow it (NFD, as macOS does).
std::string folded(const std::string& name) {
#ifdef MULLION_HAVE_UTF8PROC
  utf8proc_uint8_t* found = nullptr;
  const auto options =
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_CASEFOLD);
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(name.data()),
                   static_cast<utf8proc_ssize_t>(name.size()), &found, options);
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> memory(found, std::free);
  if (length >= 0)
    return std::string(reinterpret_cast<const char*>(found), static_cast<size_t>(length));
#endif
  return ascii_lower(name);
}

constexpr const char* kNearly = "differ only by case or by Unicode's normal form";

// Pairs of names that would be one on some systems.
std::vector<std::string> nearly_equal(const std::vector<std::string>& names) {
  std::map<std::string, std::string> first;
  std::vector<std::string> pairs;
  for (const std::string& name : names) {
    const auto [place, fresh] = first.emplace(folded(name), name);
    if (!fresh)
      pairs.push_back(
          concat("classes ", printable(place->second), " and ", printable(name), " ", kNearly));
  }
  return pairs;
}

// Why a class may be unknown: it has nearly the name of one that is known.
std::string nearly_known(const std::vector<std::string>& unknown,
                         const std::vector<std::string>& classes) {
  for (const std::string& name : unknown) {
    const std::string alike = folded(name);
    for (const std::string& other : classes)
      if (alike == folded(other))
        return concat("; ", printable(name), " and the training set's ", printable(other), " ",
                      kNearly);
  }
  return "";
}

}  // namespace

ImageFolder::ImageFolder(const std::string& root, const FolderOptions& options) : root_(root) {
  while (root_.size() > 1 && root_.back() == '/') root_.pop_back();
  FolderWalk walk(root_, options.follow_links);
  folders_ = walk.classes();
  CHECK_AS(Fault::bad_file, !folders_.empty(), printable(root_), ": no class folders; expected ",
           printable(root_), "/CLASS/PICTURE.jpg");
  std::vector<std::string> unknown, empty, unnamed;
  for (const std::string& name : folders_)
    if (utf8_prefix(name) < name.size()) unnamed.push_back(name);
  CHECK_AS(Fault::bad_file, unnamed.empty(), printable(root_), ": ", unnamed.size(),
           " class names are not UTF-8 and could not be saved with a model: ", listing(unnamed),
           "; rename these folders");
  classes_ = options.classes ? *options.classes : folders_;
  for (size_t f = 0; f < folders_.size(); ++f) {
    const auto place = std::find(classes_.begin(), classes_.end(), folders_[f]);
    if (place == classes_.end()) unknown.push_back(folders_[f]);
    std::vector<WalkedFile> pictures = walk.pictures(folders_[f]);
    if (pictures.empty()) empty.push_back(folders_[f]);
    for (WalkedFile& file : pictures) {
      samples_.push_back({std::move(file.name), file.bytes,
                          static_cast<int32_t>(place - classes_.begin()), static_cast<int32_t>(f)});
    }
  }
  not_taken_ = walk.not_taken();
  CHECK_AS(Fault::bad_file, unknown.empty(), printable(root_), ": ", unknown.size(),
           " classes unknown to the training set: ", listing(unknown),
           nearly_known(unknown, classes_));
  std::string others;
  for (const NotTaken& n : not_taken_)
    if (n.picture) others += concat("; not taken: ", n.count, " ", n.kind);
  CHECK_AS(Fault::bad_file, empty.empty(), printable(root_), ": ", empty.size(),
           " classes without a picture: ", listing(empty), others);
  for (const std::string& name : classes_)
    if (!std::binary_search(folders_.begin(), folders_.end(), name)) absent_.push_back(name);
  doubts_ = nearly_equal(folders_);
  doubts_.insert(doubts_.end(), walk.shared().begin(), walk.shared().end());
}

std::string ImageFolder::path(int64_t index) const {
  const Sample& sample = samples_[static_cast<size_t>(index)];
  return root_ + "/" + folders_[static_cast<size_t>(sample.folder)] + "/" + sample.name;
}

}  // namespace mullion
