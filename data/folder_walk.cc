// Folders in byte order; each entry is taken, or counted under the reason why not.
#include "data/folder_walk.h"

#include <dirent.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "data/utf8.h"
#include "tensor/check.h"

namespace mullion {
namespace {

constexpr size_t kMaxDepth = 64;
constexpr std::array<std::string_view, 3> kRead = {".jpg", ".jpeg", ".png"};
// Extensions of photographs and drawings that are not read.
constexpr std::array<std::string_view, 24> kOtherPictures = {
    ".webp", ".heic", ".heif", ".avif", ".gif", ".bmp", ".tif",  ".tiff",
    ".jp2",  ".jxl",  ".jfif", ".jpe",  ".ppm", ".pgm", ".pnm",  ".tga",
    ".psd",  ".svg",  ".raw",  ".dng",  ".cr2", ".nef", ".apng", ".ico"};

// In lower case, with the dot; "" where there is none.
std::string extension_of(const std::string& path) {
  const size_t name = path.rfind('/') + 1, dot = path.rfind('.');
  if (dot == std::string::npos || dot <= name) return "";
  return ascii_lower(path.substr(dot));
}

void sort(std::vector<WalkedFile>& files) {
  std::sort(files.begin(), files.end(),
            [](const WalkedFile& a, const WalkedFile& b) { return a.name < b.name; });
}

template <typename List>
bool holds(const List& list, const std::string& extension) {
  return std::find(list.begin(), list.end(), extension) != list.end();
}

}  // namespace

bool is_picture_name(const std::string& path) { return holds(kRead, extension_of(path)); }

FolderWalk::FolderWalk(std::string root, bool follow_links)
    : root_(std::move(root)), follow_links_(follow_links) {
  above_.push_back(id(""));
}

FolderWalk::Id FolderWalk::id(const std::string& folder) const {
  struct stat info {};
  const std::string path = root_ + "/" + folder;
  CHECK_AS(Fault::bad_file, ::stat(path.c_str(), &info) == 0, printable(path), ": ",
           std::strerror(errno));
  return {info.st_dev, info.st_ino};
}

void FolderWalk::pass_over(const std::string& kind, const std::string& path, bool picture) {
  auto place = std::find_if(not_taken_.begin(), not_taken_.end(),
                            [&](const NotTaken& n) { return n.kind == kind; });
  if (place == not_taken_.end()) place = not_taken_.insert(place, {kind, 0, path, picture});
  ++place->count;
}

void FolderWalk::pass_over_file(const std::string& path) {
  const std::string extension = extension_of(path);
  pass_over(extension.empty() ? "file without extension" : printable(extension), path,
            holds(kOtherPictures, extension));
}

// What a path is after links; `other` has been passed over.
FolderWalk::Kind FolderWalk::kind(const std::string& path, int64_t& bytes) {
  const std::string full = root_ + "/" + path;
  struct stat info {};
  if (::lstat(full.c_str(), &info) != 0) {
    pass_over("entry that cannot be looked at", path);
    return Kind::other;
  }
  if (S_ISLNK(info.st_mode)) {
    if (!follow_links_) {
      pass_over("link (--no-follow-links)", path, true);
      return Kind::other;
    }
    if (::stat(full.c_str(), &info) != 0) {
      pass_over("broken link", path, true);
      return Kind::other;
    }
  }
  if (S_ISDIR(info.st_mode)) return Kind::folder;
  bytes = info.st_size;
  if (S_ISREG(info.st_mode)) return Kind::file;
  pass_over("pipe, socket or device", path);
  return Kind::other;
}

std::vector<std::string> FolderWalk::names_in(const std::string& folder) {
  const std::string path = root_ + "/" + folder;
  DIR* handle = ::opendir(path.c_str());
  CHECK_AS(Fault::bad_file, handle != nullptr, printable(path), ": ", std::strerror(errno));
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(handle, ::closedir);
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(handle)) {
    const std::string name = entry->d_name;
    if (name[0] != '.') {
      names.push_back(name);
    } else if (name != "." && name != "..") {
      pass_over("hidden", folder.empty() ? name : folder + "/" + name);
    }
  }
  std::sort(names.begin(), names.end());  // std::string compares bytes as unsigned
  return names;
}

std::vector<std::string> FolderWalk::classes() {
  std::vector<std::string> folders;
  for (const std::string& name : names_in("")) {
    int64_t bytes = 0;
    const Kind what = kind(name, bytes);
    if (what == Kind::folder) folders.push_back(name);
    if (what == Kind::file) {
      if (is_picture_name(name))
        pass_over("picture outside of the class folders", name, true);
      else
        pass_over_file(name);
    }
  }
  return folders;
}

void FolderWalk::below(const std::string& class_name, const std::string& prefix,
                       std::vector<WalkedFile>& out) {
  const std::string folder = class_name.empty() ? prefix : class_name + "/" + prefix;
  const std::string shown = folder.substr(0, folder.size() - !folder.empty());  // without its '/'
  CHECK_AS(Fault::bad_file, above_.size() <= kMaxDepth, printable(root_ + "/" + shown),
           ": more than ", kMaxDepth, " folders deep");
  const Id here = id(shown);
  if (std::find(above_.begin(), above_.end(), here) != above_.end()) {
    pass_over("link to a folder that it stands in", shown);
    return;
  }
  if (!seen_.insert(here).second) {
    pass_over("folder of this class met a second time", shown, true);
    return;
  }
  const auto [owner, fresh] = owner_.emplace(here, shown);
  if (!fresh)
    shared_.push_back(printable(shown) + " is the same folder as " + printable(owner->second));
  above_.push_back(here);
  for (const std::string& name : names_in(shown)) {
    int64_t bytes = 0;
    const Kind what = kind(folder + name, bytes);
    if (what == Kind::folder) below(class_name, prefix + name + "/", out);
    if (what != Kind::file) continue;
    if (is_picture_name(name))
      out.push_back({prefix + name, bytes});
    else
      pass_over_file(folder + name);
  }
  above_.pop_back();
}

std::vector<WalkedFile> FolderWalk::all_pictures() {
  std::vector<WalkedFile> out;
  seen_.clear();
  above_.clear();
  below("", "", out);
  sort(out);
  return out;
}

std::vector<WalkedFile> FolderWalk::pictures(const std::string& class_name) {
  std::vector<WalkedFile> out;
  seen_.clear();
  below(class_name, "", out);
  sort(out);
  return out;
}

}  // namespace mullion
