// What the user of a picture should hear though it was decoded: a part of its file was passed over,
// made up, or can be understood in two ways. One bit a kind; a picture's bits are a NoteSet.
#pragma once
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace mullion {

enum class ImageNote : uint8_t {
  jfif_revision,        // of JPEG's header, unknown to libjpeg
  skipped_bytes,        // between JPEG's segments or before its end
  lost_restart_marker,  // the pixels up to the next one are made up
  adobe_transform,      // of an unknown number
  plain_cmyk,           // four colours without Adobe's marker, which tells their sign
  scan_parameters,      // that a sequential JPEG does not have
  orientation_ignored,  // EXIF says the picture is stored turned; it is used as stored
  bad_exif,             // its orientation cannot be read
  deep_samples,         // PNG of 16 bits a channel
  transparency,         // PNG with alpha or tRNS
  animation,            // APNG
  enlarged,             // for an evaluation at a size that the picture does not have
};
constexpr int kImageNotes = static_cast<int>(ImageNote::enlarged) + 1;

// What was done, for a message: "EXIF orientation ignored".
const char* to_text(ImageNote note);

class NoteSet {
 public:
  void add(ImageNote note) { bits_ |= 1u << static_cast<int>(note); }
  void add(NoteSet other) { bits_ |= other.bits_; }
  NoteSet without(ImageNote note) const {
    NoteSet rest = *this;
    rest.bits_ &= ~(1u << static_cast<int>(note));
    return rest;
  }
  bool has(ImageNote note) const { return (bits_ >> static_cast<int>(note) & 1) != 0; }
  bool empty() const { return bits_ == 0; }
  std::vector<std::string> texts() const;

 private:
  uint32_t bits_ = 0;
};

// How many pictures of a data set had a note, by kind.
struct NoteCount {
  ImageNote note{};
  int64_t pictures = 0;
  std::string example;  // the path of the one that came first
};

// Counts pictures, each once however often it is read. Called from several threads.
class NoteCounter {
 public:
  explicit NoteCounter(int64_t pictures) : pictures_(pictures) {}
  void add(NoteSet notes, int64_t index, const std::string& path);
  std::vector<NoteCount> counts() const;

 private:
  mutable std::mutex mutex_;
  int64_t pictures_;
  std::vector<NoteSet> seen_;  // empty until the first note
  std::vector<NoteCount> counts_;
};

}  // namespace mullion
