// data_tic prepare: ImageNet's archives, a tar of the classes' tars and a flat one, into class
// folders. Names from inside are keys that are checked letter by letter; none is ever used as a
// path.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "apps/program/log.h"
#include "apps/program/progress.h"
#include "apps/program/signals.h"
#include "apps/tic/data_verbs.h"
#include "apps/tic/ilsvrc_counts.h"
#include "apps/tic/output_lock.h"
#include "apps/tic/val_labels.h"
#include "data/image_source.h"
#include "data/tar.h"
#include "tensor/check.h"
#include "tensor/io/file_ops.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMostImage = uint64_t{1} << 28;
// The classes of the first validation images of ILSVRC2012, by which lists of another order show.
constexpr const char* kFirstLabels[] = {"n01751748", "n09193705", "n02105855", "n04263257",
                                        "n03125729"};

// Letters, digits, '_' and '-', then .JPEG (or .jpg, .png).
bool is_image(const std::string& name) {
  const size_t dot = name.find('.');
  const std::string extension = dot == std::string::npos ? "" : name.substr(dot);
  return dot > 0 && dot < 200 &&
         (extension == ".JPEG" || extension == ".jpg" || extension == ".jpeg" ||
          extension == ".png") &&
         std::all_of(name.begin(), name.begin() + static_cast<ptrdiff_t>(dot), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                  c == '_' || c == '-';
         });
}

using Read = std::function<void(std::vector<uint8_t>&)>;
// Called with a class (empty: flat), the image's name, and what reads its bytes.
using Visit = std::function<void(const std::string&, const std::string&, const Read&)>;

void visit_tar(TarReader& tar, const ByteSource& source, const std::string& archive,
               const std::string& wnid, const Visit& visit) {
  TarMember member;
  while (tar.next(member)) {
    const std::string shown = archive + "/" + printable(member.name);
    CHECK_AS(Fault::bad_file, !member.name.ends_with(".tar"), shown,
             ": an archive of a class where images are expected: are --train and --val exchanged?");
    CHECK_AS(Fault::bad_file, is_image(member.name), shown, ": no name of an image");
    CHECK_AS(Fault::bad_file, wnid.empty() || member.name.starts_with(wnid + "_"), shown,
             ": an image of another class than its archive");
    CHECK_AS(Fault::bad_file, member.size <= kMostImage, shown, ": ", member.size, " bytes");
    visit(wnid, member.name, [&](std::vector<uint8_t>& bytes) {
      bytes.resize(member.size);
      source.read_at(member.offset, std::as_writable_bytes(std::span(bytes)));
    });
  }
}

void visit_train_tar(const fs::path& path, const Visit& visit) {
  const auto source = open_file(path);
  const std::string archive = printable(path.string());
  TarReader outer(*source);
  TarMember member;
  std::set<std::string> seen;
  while (outer.next(member)) {
    const std::string shown = archive + "/" + printable(member.name);
    CHECK_AS(Fault::bad_file, !is_image(member.name), shown,
             ": an image where archives of classes are expected: are --train and --val exchanged?");
    const std::string wnid = member.name.substr(0, member.name.find('.'));
    CHECK_AS(Fault::bad_file, is_wnid(wnid) && member.name == wnid + ".tar", shown,
             ": no archive of a class, e.g. n01440764.tar");
    CHECK_AS(Fault::bad_file, seen.insert(wnid).second, shown, ": comes a second time");
    TarReader inner(*source, member.offset, member.size, shown);
    visit_tar(inner, *source, shown, wnid, visit);
  }
}

void visit_flat(const fs::path& path, const Visit& visit) {
  if (!fs::is_directory(path)) {
    const auto source = open_file(path);
    TarReader tar(*source);
    return visit_tar(tar, *source, printable(path.string()), "", visit);
  }
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(path))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    CHECK_AS(Fault::bad_file, is_image(name), printable((path / name).string()),
             ": no name of an image");
    visit("", name, [&](std::vector<uint8_t>& bytes) {
      read_regular_file((path / name).string(), bytes, static_cast<int64_t>(kMostImage));
    });
  }
}

// Kaggle's CLS-LOC/train: a folder a class.
void visit_train_folder(const fs::path& path, const Visit& visit) {
  std::vector<std::string> classes;
  for (const auto& entry : fs::directory_iterator(path))
    classes.push_back(entry.path().filename().string());
  std::sort(classes.begin(), classes.end());
  for (const std::string& wnid : classes) {
    CHECK_AS(Fault::bad_file, is_wnid(wnid) && fs::is_directory(path / wnid),
             printable((path / wnid).string()), ": no folder of a class, e.g. n01440764");
    visit_flat(path / wnid, [&](const std::string&, const std::string& name, const Read& read) {
      visit(wnid, name, read);
    });
  }
}

// One split, under a hidden name until it is whole. A run that was cut goes on: files that are
// there are compared with the archive's bytes.
class SplitWriter {
 public:
  SplitWriter(const fs::path& root, const std::string& name)
      : final_(root / name), partial_(root / ("." + name + ".partial")) {
    whole_ = fs::exists(final_);
    if (!whole_) fs::create_directories(partial_);
  }
  void put(const std::string& wnid, const std::string& name, const std::vector<uint8_t>& bytes) {
    CHECK_AS(Fault::bad_file, names_[wnid].insert(name).second, name, " comes a second time in ",
             wnid);
    const fs::path file = (whole_ ? final_ : partial_) / wnid / name;
    if (fs::exists(file)) {
      read_file(file);
      if (old_ == bytes) return;
    }
    CHECK_AS(Fault::bad_file, !whole_, printable(file.string()),
             ": is not what the archive holds; remove ", printable(final_.string()),
             " to prepare it anew");
    if (fs::exists(file)) remove_file(file);
    if (!fs::exists(file.parent_path())) make_folder(file.parent_path());
    const int fd = create_file(file);
    try {
      write_file(fd, file, 0, std::as_bytes(std::span(bytes)));
    } catch (...) {
      ::close(fd);
      throw;
    }
    close_file(fd, file);
  }
  // Gives the split its name. Files that the archive does not have are an error.
  void finish() {
    const fs::path& folder = whole_ ? final_ : partial_;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      const fs::path below = entry.path().lexically_relative(folder);
      const auto own = names_.find(below.begin()->string());
      const bool known = own != names_.end() &&
                         (entry.is_directory() || own->second.count(below.filename().string()) > 0);
      CHECK_AS(Fault::bad_file, known, printable(entry.path().string()),
               ": is not in the archive; remove it");
    }
    if (whole_) return;
    // All files at once: a sync of each would take hours for a million of them.
    if (const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); fd >= 0) {
      ::syncfs(fd);
      ::close(fd);
    }
    rename_new(partial_, final_);
    sync_folder(final_.parent_path());
  }
  std::vector<std::string> classes() const {
    std::vector<std::string> names;
    for (const auto& [wnid, images] : names_) names.push_back(wnid);
    return names;
  }
  ClassCounts counts() const {
    ClassCounts counts;
    for (const auto& [wnid, own] : names_) counts[wnid] = std::ssize(own);
    return counts;
  }
  int64_t images() const {
    int64_t n = 0;
    for (const auto& [wnid, own] : names_) n += std::ssize(own);
    return n;
  }

 private:
  void read_file(const fs::path& file) {
    old_.clear();
    if (fs::file_size(file) > 0)
      read_regular_file(file.string(), old_, static_cast<int64_t>(kMostImage));
  }
  fs::path final_, partial_;
  bool whole_;
  std::map<std::string, std::set<std::string>> names_;
  std::vector<uint8_t> old_;
};

struct Stopped {};

// Visits as an archive does, writing what comes.
void copy_split(
    SplitWriter& writer, const std::string& label,
    const std::function<void(const Visit&)>& visit_all,
    const std::function<std::string(const std::string& wnid, const std::string& name)>& class_of) {
  Progress progress(label, 0);
  std::vector<uint8_t> bytes;
  int64_t done = 0;
  visit_all([&](const std::string& wnid, const std::string& name, const Read& read) {
    if (stop_requested()) throw Stopped();
    read(bytes);
    writer.put(class_of(wnid, name), name, bytes);
    progress.update(++done);
  });
}

ValLabels labels_of(const Options& options) {
  if (options.has("data.devkit")) return read_devkit_labels(options.get<fs::path>("data.devkit"));
  return read_val_labels(
      options.get<fs::path>("data.val_labels"),
      options.has("data.class_map") ? options.get<fs::path>("data.class_map") : fs::path());
}

// The n of ILSVRC2012_val_n.JPEG.
size_t number_of(const std::string& name, size_t most) {
  constexpr std::string_view kPrefix = "ILSVRC2012_val_";
  size_t n = 0;
  bool good = name.starts_with(kPrefix) && name.size() >= kPrefix.size() + 8;
  for (size_t i = 0; good && i < 8; ++i) {
    const char c = name[kPrefix.size() + i];
    good = c >= '0' && c <= '9';
    n = n * 10 + static_cast<size_t>(c - '0');
  }
  CHECK_AS(Fault::bad_file, good && name.size() == kPrefix.size() + 13 && n >= 1, name,
           ": expected ILSVRC2012_val_NUMBER.JPEG, with 8 digits");
  CHECK_AS(Fault::bad_file, n <= most, name, ": the labels end at image ", most);
  return n;
}

Outcome run(const Options& options) {
  CHECK_AS(Fault::usage, options.has("data.devkit") != options.has("data.val_labels"),
           "one of --devkit and --val-labels is needed");
  const fs::path root = options.get<fs::path>("data.output"),
                 train = options.get<fs::path>("data.train"),
                 val = options.get<fs::path>("data.val");
  const ValLabels listed = labels_of(options);  // before hours of unpacking
  const OutputLock lock(root);
  SplitWriter train_writer(root, "train"), val_writer(root, "val");
  try {
    copy_split(
        train_writer, "train",
        [&](const Visit& visit) {
          fs::is_directory(train) ? visit_train_folder(train, visit)
                                  : visit_train_tar(train, visit);
        },
        [](const std::string& wnid, const std::string&) { return wnid; });
    const std::vector<std::string> classes = train_writer.classes();
    CHECK_AS(Fault::bad_file, classes.size() > 1, printable(train.string()), ": ", classes.size(),
             " classes");
    const std::vector<std::string> labels = listed.of(classes);
    if (is_whole_ilsvrc(classes.size(), labels.size())) {
      for (size_t i = 0; i < std::size(kFirstLabels); ++i)
        CHECK_AS(Fault::bad_file, labels[i] == kFirstLabels[i],
                 "the validation labels are in another order than ILSVRC2012's: image ", i + 1,
                 " is of class ", kFirstLabels[i], ", not ", labels[i]);
    }
    train_writer.finish();
    std::vector<bool> seen(labels.size());
    copy_split(
        val_writer, "val", [&](const Visit& visit) { visit_flat(val, visit); },
        [&](const std::string&, const std::string& name) {
          const size_t n = number_of(name, labels.size());
          seen[n - 1] = true;
          return labels[n - 1];
        });
    const auto missing = std::find(seen.begin(), seen.end(), false);
    CHECK_AS(Fault::bad_file, missing == seen.end(), printable(val.string()), ": image ",
             missing - seen.begin() + 1, " of ", labels.size(), " is missing");
    val_writer.finish();
  } catch (const Stopped&) {
    return {JsonObject().set("stopped", stop_reason()), kExitStopped};
  }
  for (const std::string& doubt : ilsvrc_count_doubts(train_writer.counts(), val_writer.counts()))
    log_warning(doubt);
  log_info("prepared ", printable(root.string()));
  return JsonObject()
      .set("output", root.string())
      .set("classes", train_writer.classes().size())
      .set("train_images", train_writer.images())
      .set("val_images", val_writer.images());
}

}  // namespace

Verb prepare_verb() {
  OptionTable table("data_tic prepare",
                    "ImageNet-1K's archives (or Kaggle's CLS-LOC folders) into class folders.");
  table
      .add_optional<fs::path>("data.train", "--train",
                              "ILSVRC2012_img_train.tar, or a folder of class folders")
      .required();
  table.add_optional<fs::path>("data.val", "--val", "ILSVRC2012_img_val.tar, or a folder of images")
      .required();
  table.add_optional<fs::path>("data.devkit", "--devkit",
                               "ILSVRC2012_devkit_t12.tar.gz, which has the validation labels");
  table.add_optional<fs::path>("data.val_labels", "--val-labels",
                               "WordNet ids or numbers, a line an image, or LOC_val_solution.csv");
  table.add_optional<fs::path>("data.class_map", "--class-map",
                               "map_clsloc.txt, where the labels are ILSVRC's ids from 1");
  table.add_optional<fs::path>("data.output", "-o,--output", "folder to make").required();
  table.at("data.class_map").only_with("data.val_labels");
  table.add_common_without(true, true);
  return {table, run};
}

}  // namespace mullion
