// The notes' words, and a count of each kind with the first picture that had it.
#include "data/image_notes.h"

#include <algorithm>
#include <array>

namespace mullion {

const char* to_text(ImageNote note) {
  constexpr std::array<const char*, kImageNotes> kTexts = {
      "JFIF revision unknown, read as 1.02",
      "bytes that belong to no JPEG segment skipped",
      "JPEG restart marker lost, the pixels up to the next one made up",
      "Adobe colour transform unknown, taken as YCbCr or YCCK",
      "CMYK JPEG without Adobe's marker, inks taken as inverted",
      "scan parameters that a sequential JPEG does not have ignored",
      "EXIF orientation ignored (--exif apply turns the picture)",
      "EXIF that cannot be read ignored",
      "PNG of 16 bits a channel, the high 8 bits used",
      "transparency of a PNG dropped, colours as stored",
      "animated PNG, its still picture used",
      "smaller than an evaluation at this size resizes to, enlarged"};
  return kTexts[static_cast<size_t>(note)];
}

std::vector<std::string> NoteSet::texts() const {
  std::vector<std::string> found;
  for (int i = 0; i < kImageNotes; ++i) {
    if (has(static_cast<ImageNote>(i))) found.emplace_back(to_text(static_cast<ImageNote>(i)));
  }
  return found;
}

void NoteCounter::add(NoteSet notes, int64_t index, const std::string& path) {
  if (notes.empty()) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (seen_.empty()) seen_.resize(static_cast<size_t>(pictures_));
  NoteSet& seen = seen_[static_cast<size_t>(index)];
  for (int i = 0; i < kImageNotes; ++i) {
    const auto note = static_cast<ImageNote>(i);
    if (!notes.has(note) || seen.has(note)) continue;
    const auto same = [note](const NoteCount& c) { return c.note == note; };
    auto place = std::find_if(counts_.begin(), counts_.end(), same);
    if (place == counts_.end()) place = counts_.insert(place, {note, 0, path});
    ++place->pictures;
  }
  seen.add(notes);
}

std::vector<NoteCount> NoteCounter::counts() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return counts_;
}

}  // namespace mullion
