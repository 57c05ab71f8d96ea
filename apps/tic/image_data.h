// What the TiC programs share about folders of images: their options, and saying what of a folder
// or of a picture was not used, on stderr and in the result.
#pragma once
#include <set>
#include <string>
#include <vector>

#include "apps/options/options.h"
#include "apps/program/json_object.h"
#include "apps/tic/model_folder.h"
#include "data/image_folder.h"
#include "data/image_shards.h"
#include "data/loader.h"

namespace mullion {

// --follow-links, of a program that reads folders.
void add_folder_options(OptionTable& table);
// Which options are for --data-dir cue alone, and which for pictures in files alone.
void tie_to_scenes(OptionTable& table, const std::vector<std::string>& of_scenes,
                   const std::vector<std::string>& of_files);
FolderOptions folder_options(const Options& options, const std::vector<std::string>* classes);
// --exif of a program that uses a trained model: the model's way where it is not given.
void add_exif_option(OptionTable& table);
// The way asked for; says so where the model was trained in the other.
ExifUse exif_of(const Options& options, const TicDescription& description);

// A split of a data folder: class folders in root/split, or shards of that split in root; "": the
// folder itself. An error where there are both.
std::shared_ptr<const ImageSource> open_images(const std::filesystem::path& root,
                                               const std::string& split,
                                               const FolderOptions& options);
// The split that was given, else the first of val, validation and test that the folder holds; "":
// none.
std::string validation_split(const std::filesystem::path& root, const std::string& given);

// Says what of a tree was not taken, and what looks like a mistake. One line each.
void tell_of(const ImageSource& source);
// {".webp": 2, "hidden": 1}
JsonObject not_taken(const ImageSource& source);

// A grid of a batch's images, as a network sees them; the same as a PNG file.
Image preview(const Batch& batch, const SampleShape& shape, const Normalization& normalization);
void write_preview(const std::string& path, const Batch& batch, const SampleShape& shape,
                   const Normalization& normalization);

// A picture's file and what a model sees of it.
struct PictureFile {
  PictureFile(const std::string& path, ExifUse exif);
  PictureFile(const PictureFile&) = delete;
  // (1, height, width, 3), normalised, on the CPU.
  Tensor input(const EvalTransform& transform) const;
  std::vector<uint8_t> bytes;
  EncodedImage encoded;  // of `bytes`
};

// Says each kind of note once, at the first picture that has it, and how many had it at the end.
class NoteTeller {
 public:
  void tell(const std::vector<NoteCount>& counts);
  // `what`: "training images".
  void tell_totals(const std::vector<NoteCount>& counts, const std::string& what) const;

 private:
  std::set<ImageNote> logged_;
};
// {"EXIF orientation ignored ...": 12}
JsonObject notes_of(const std::vector<NoteCount>& counts);

}  // namespace mullion
