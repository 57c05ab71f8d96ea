// Splits found and opened, notes counted and said once, pictures made and shown.
#include "apps/tic/image_data.h"

#include <algorithm>
#include <cmath>

#include "apps/program/log.h"
#include "data/png.h"
#include "tensor/check.h"
#include "tensor/words.h"

namespace mullion {

namespace fs = std::filesystem;

void add_folder_options(OptionTable& table) {
  table.add("data.follow_links", "--follow-links", true,
            "take what links to folders and files lead to");
}

void tie_to_scenes(OptionTable& table, const std::vector<std::string>& of_scenes,
                   const std::vector<std::string>& of_files) {
  for (const std::string& key : of_scenes) table.at(key).only_with("data.dir", {"cue"});
  for (const std::string& key : of_files) table.at(key).not_with("data.dir", {"cue"});
}

FolderOptions folder_options(const Options& options, const std::vector<std::string>* classes) {
  return {classes, options.get<bool>("data.follow_links")};
}

std::shared_ptr<const ImageSource> open_images(const std::filesystem::path& root,
                                               const std::string& split,
                                               const FolderOptions& options) {
  const std::filesystem::path folder = split.empty() ? root : root / split;
  const bool shards = std::filesystem::is_directory(root) && !find_shards(root, split).empty();
  if (!shards) {
    const std::vector<std::string> listed = listed_splits(root);
    CHECK_AS(Fault::bad_file, listed.empty() || (!split.empty() && fs::is_directory(folder)),
             printable((root / "_info.json").string()), ": lists no shards of ",
             split.empty() ? "val, validation or test" : printable(split), ", only of ",
             listing(listed));
    return std::make_shared<ImageFolder>(folder.string(), options);
  }
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    CHECK_AS(Fault::bad_file,
             !entry.is_directory() || entry.path().filename().string().starts_with("."),
             printable(folder.string()), ": class folders, and shards of the split ", split,
             ": one of them has to go");
  return std::make_shared<ImageShards>(root, split, options.classes);
}

std::string validation_split(const std::filesystem::path& root, const std::string& given) {
  if (!given.empty()) return given;
  for (const char* name : {"val", "validation", "test"})
    if (std::filesystem::is_directory(root / name) ||
        (std::filesystem::is_directory(root) && !find_shards(root, name).empty()))
      return name;
  return "";
}

void add_exif_option(OptionTable& table) {
  table
      .add_optional<std::string>("data.exif", "--exif",
                                 "turn photos upright by their EXIF orientation (default: as in "
                                 "training)")
      .one_of({"ignore", "apply"});
}

ExifUse exif_of(const Options& options, const TicDescription& d) {
  if (!options.has("data.exif")) return d.exif;
  const ExifUse use = exif_use(options.get<std::string>("data.exif"));
  if (use != d.exif)
    log_warning("--exif ", to_name(use), ": the model was trained with --exif ", to_name(d.exif));
  return use;
}

void tell_of(const ImageSource& source) {
  const std::string root = printable(source.root());
  log_info(root, ": ", source.describe(), ", ", source.size(), " images of ",
           source.classes().size(), " classes");
  int64_t total = 0;
  bool pictures = false, convert = false;
  for (const NotTaken& n : source.not_taken()) {
    total += n.count;
    pictures |= n.picture;
    convert |= n.picture && n.kind[0] == '.';
  }
  const std::string kinds = joined(source.not_taken(), ", ", [](const NotTaken& n) {
    return concat(n.count, " ", n.kind, " (", printable(n.example), n.count > 1 ? ", ..." : "",
                  ")");
  });
  if (total > 0) {
    const std::string text = concat(
        root, ": ", total, total == 1 ? " entry" : " entries", " not taken: ", kinds,
        convert ? "; only .jpg, .jpeg and .png are read: convert or rename the other images" : "");
    if (pictures)
      log_warning(text);
    else
      log_info(text);
  }
  for (const std::string& doubt : source.doubts()) log_warning(root, ": ", doubt);
  if (const auto& absent = source.absent_classes(); !absent.empty())
    log_warning(root, ": no images of ", absent.size(), " of the model's ", source.classes().size(),
                " classes: ", listing(absent));
}

JsonObject not_taken(const ImageSource& source) {
  JsonObject kinds;
  for (const NotTaken& n : source.not_taken()) kinds.set(n.kind, n.count);
  return kinds;
}

namespace {
std::vector<uint8_t> bytes_of(const std::string& path) {
  std::vector<uint8_t> bytes;
  read_regular_file(path, bytes);
  return bytes;
}
}  // namespace

PictureFile::PictureFile(const std::string& path, ExifUse exif)
    : bytes(bytes_of(path)), encoded(bytes, path, {}, exif) {}

Tensor PictureFile::input(const EvalTransform& transform) const {
  thread_local TransformScratch scratch;
  const Tensor x = Tensor::empty({1, transform.height, transform.width, 3});
  apply(transform, encoded, scratch, x.data<float>());
  return x;
}

Image preview(const Batch& batch, const SampleShape& shape, const Normalization& n) {
  const int across = std::max(1, static_cast<int>(std::ceil(std::sqrt(batch.count))));
  const int down = (batch.count + across - 1) / across;
  Image sheet;
  sheet.resize(across * shape.width, down * shape.height);
  const float* from = batch.images.data();
  for (int i = 0; i < batch.count; ++i) {
    for (int y = 0; y < shape.height; ++y) {
      uint8_t* to = sheet.row(i / across * shape.height + y) +
                    static_cast<ptrdiff_t>(3) * (i % across) * shape.width;
      for (int k = 0; k < 3 * shape.width; ++k) {
        const auto c = static_cast<size_t>(k % 3);
        const float level = 255 * (*from++ * n.std[c] + n.mean[c]);
        to[k] = static_cast<uint8_t>(std::clamp(level, 0.0f, 255.0f) + 0.5f);
      }
    }
  }
  return sheet;
}

void write_preview(const std::string& path, const Batch& batch, const SampleShape& shape,
                   const Normalization& n) {
  write_png(path, preview(batch, shape, n));
}

void NoteTeller::tell(const std::vector<NoteCount>& counts) {
  for (const NoteCount& c : counts)
    if (logged_.insert(c.note).second) log_warning(printable(c.example), ": ", to_text(c.note));
}

void NoteTeller::tell_totals(const std::vector<NoteCount>& counts, const std::string& what) const {
  for (const NoteCount& c : counts) log_info(c.pictures, " ", what, ": ", to_text(c.note));
}

JsonObject notes_of(const std::vector<NoteCount>& counts) {
  JsonObject notes;
  for (const NoteCount& c : counts) notes.set(to_text(c.note), c.pictures);
  return notes;
}

}  // namespace mullion
