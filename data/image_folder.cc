#include "data/image_folder.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <set>

#include "tensor/check.h"

namespace mullion {
namespace {

constexpr int kMaxDepth = 64;

bool is_picture(const std::string& name) {
  const size_t dot = name.rfind('.');
  if (dot == std::string::npos) return false;
  std::string extension = name.substr(dot + 1);
  for (char& c : extension) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return extension == "jpg" || extension == "jpeg" || extension == "png";
}

std::string real_path(const std::string& path) {
  char* found = ::realpath(path.c_str(), nullptr);
  CHECK_AS(Fault::bad_file, found != nullptr, printable(path), ": ", std::strerror(errno));
  std::string out = found;
  std::free(found);
  return out;
}

std::vector<std::string> names_in(const std::string& folder) {
  DIR* handle = ::opendir(folder.c_str());
  CHECK_AS(Fault::bad_file, handle != nullptr, printable(folder), ": ", std::strerror(errno));
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(handle, ::closedir);
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(handle)) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());  // std::string compares bytes as unsigned
  return names;
}

// Walks one tree, visiting each directory once, so that loops of links end.
class Walk {
 public:
  Walk(std::string root, bool links_outside)
      : root_(std::move(root)), real_root_(real_path(root_)), links_outside_(links_outside) {}

  // What `path` is after links: S_IFDIR, S_IFREG, or 0 for everything else (a dangling link, a
  // pipe, a device). A link that leaves the root is an error.
  mode_t kind(const std::string& path) {
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0) return 0;
    if (S_ISLNK(info.st_mode)) {
      if (::stat(path.c_str(), &info) != 0) return 0;
      if (!links_outside_) check_inside(path);
    }
    if (S_ISDIR(info.st_mode)) return S_IFDIR;
    return S_ISREG(info.st_mode) ? S_IFREG : 0;
  }

  // Names of the pictures at any depth below `folder`, relative to it.
  void pictures(const std::string& folder, const std::string& prefix, int depth,
                std::vector<std::string>& out) {
    CHECK_AS(Fault::bad_file, depth <= kMaxDepth, printable(folder), ": more than ", kMaxDepth,
             " folders deep");
    if (!enter(folder)) return;
    for (const std::string& name : names_in(folder)) {
      const std::string path = folder + "/" + name;
      const mode_t what = kind(path);
      if (what == S_IFDIR) pictures(path, prefix + name + "/", depth + 1, out);
      if (what == S_IFREG && is_picture(name)) out.push_back(prefix + name);
    }
  }

 private:
  bool enter(const std::string& folder) {
    struct stat info {};
    CHECK_AS(Fault::bad_file, ::stat(folder.c_str(), &info) == 0, printable(folder), ": ",
             std::strerror(errno));
    return seen_.emplace(info.st_dev, info.st_ino).second;
  }

  void check_inside(const std::string& path) const {
    const std::string target = real_path(path);
    const bool inside = target == real_root_ || target.rfind(real_root_ + "/", 0) == 0;
    CHECK_AS(Fault::bad_file, inside, printable(path), ": a link out of ", printable(root_),
             ", to ", printable(target));
  }

  std::string root_, real_root_;
  bool links_outside_;
  std::set<std::pair<dev_t, ino_t>> seen_;
};

// At most ten names for a message.
std::string listing(const std::vector<std::string>& names) {
  std::string out;
  for (size_t i = 0; i < std::min<size_t>(names.size(), 10); ++i) {
    out += (i > 0 ? ", " : "") + printable(names[i]);
  }
  if (names.size() > 10) out += concat(" and ", names.size() - 10, " more");
  return out;
}

}  // namespace

ImageFolder::ImageFolder(const std::string& root, const FolderOptions& options) : root_(root) {
  while (root_.size() > 1 && root_.back() == '/') root_.pop_back();
  Walk walk(root_, options.links_outside);
  for (const std::string& name : names_in(root_)) {
    if (walk.kind(root_ + "/" + name) == S_IFDIR) folders_.push_back(name);
  }
  CHECK_AS(Fault::bad_file, !folders_.empty(), printable(root_), ": no class folders; expected ",
           printable(root_), "/CLASS/PICTURE.jpg");
  classes_ = options.classes ? *options.classes : folders_;
  std::vector<std::string> unknown, empty, pictures;
  for (size_t f = 0; f < folders_.size(); ++f) {
    const auto place = std::find(classes_.begin(), classes_.end(), folders_[f]);
    if (place == classes_.end()) unknown.push_back(folders_[f]);
    pictures.clear();
    walk.pictures(root_ + "/" + folders_[f], "", 1, pictures);
    if (pictures.empty()) empty.push_back(folders_[f]);
    std::sort(pictures.begin(), pictures.end());
    for (std::string& name : pictures) {
      samples_.push_back({std::move(name), static_cast<int32_t>(place - classes_.begin()),
                          static_cast<int32_t>(f)});
    }
  }
  CHECK_AS(Fault::bad_file, unknown.empty(), printable(root_), ": ", unknown.size(),
           " classes unknown to the training set: ", listing(unknown));
  CHECK_AS(Fault::bad_file, empty.empty(), printable(root_), ": ", empty.size(),
           " classes without a picture: ", listing(empty));
}

std::string ImageFolder::path(int64_t index) const {
  const Sample& sample = samples_[static_cast<size_t>(index)];
  return root_ + "/" + folders_[static_cast<size_t>(sample.folder)] + "/" + sample.name;
}

ImageFolderDataset::ImageFolderDataset(std::shared_ptr<const ImageFolder> folder,
                                       const TrainTransform& transform)
    : folder_(std::move(folder)), train_(transform), training_(true) {}

ImageFolderDataset::ImageFolderDataset(std::shared_ptr<const ImageFolder> folder,
                                       const EvalTransform& transform)
    : folder_(std::move(folder)), eval_(transform), training_(false) {}

SampleShape ImageFolderDataset::shape() const {
  return training_ ? SampleShape{train_.height, train_.width}
                   : SampleShape{eval_.height, eval_.width};
}

int64_t ImageFolderDataset::load(const SampleKey& key, float* out) const {
  thread_local std::vector<uint8_t> bytes;
  thread_local TransformScratch scratch;
  const std::string path = folder_->path(key.index);
  read_regular_file(path, bytes);
  const EncodedImage image(bytes, path);
  if (training_) {
    apply(train_, image, key, scratch, out);
  } else {
    apply(eval_, image, scratch, out);
  }
  return folder_->label(key.index);
}

}  // namespace mullion
