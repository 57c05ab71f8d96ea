// Decoding by libjpeg-turbo. Its errors come back by longjmp, so every step that may jump lives in
// a function without destructors and all buffers belong to JpegDecoder, outside of the jump.
#include "data/jpeg.h"

#ifdef MULLION_HAVE_TURBOJPEG

#include <cstring>
#include <utility>

#include "data/jpeg_error.h"

#include <jerror.h>

#include "tensor/check.h"

namespace mullion {
namespace {

struct ErrorManager : JpegErrorExit {
  NoteSet notes;
  bool skipped = false;  // the message before was of skipped bytes
  bool resumed = false;  // a restart marker was missing; the interval behind it has no data
};

// A restart marker was lost where the data of one interval stand before the next marker: libjpeg
// skips them, makes up the interval and goes on in step. Without such data, or with more than one
// marker gone, the interval itself is missing. (Where the last marker of a scan is lost, what is
// found is no restart marker.)
bool is_lost_marker(int found, int wanted, bool data_skipped) {
  const bool restart = found >= 0xD0 && found <= 0xD7;
  return data_skipped && (!restart || found - 0xD0 == ((wanted + 1) & 7));
}

// Which of libjpeg's warnings leave the pixels as they are meant; false: data are missing or wrong.
//   noted: JFIF_MAJOR, ADOBE_XFORM, NOT_SEQUENTIAL, EXTRANEOUS_DATA; MUST_RESYNC for one lost
//          marker, and the HIT_MARKER that it brings
//   error: HIT_MARKER otherwise, JPEG_EOF, HUFF_BAD_CODE, ARITH_BAD_CODE, BOGUS_PROGRESSION
bool is_harmless(ErrorManager& errors) {
  const int* values = errors.base.msg_parm.i;
  const bool skipped = errors.skipped;
  errors.skipped = false;
  switch (errors.base.msg_code) {
    case JWRN_JFIF_MAJOR:
      errors.notes.add(ImageNote::jfif_revision);
      return true;
    case JWRN_ADOBE_XFORM:
      errors.notes.add(ImageNote::adobe_transform);
      return true;
    case JWRN_NOT_SEQUENTIAL:
      errors.notes.add(ImageNote::scan_parameters);
      return true;
    case JWRN_EXTRANEOUS_DATA:
      errors.notes.add(ImageNote::skipped_bytes);
      errors.skipped = true;
      return true;
    case JWRN_MUST_RESYNC:
      errors.notes.add(ImageNote::lost_restart_marker);
      return errors.resumed = is_lost_marker(values[0], values[1], skipped);
    case JWRN_HIT_MARKER:
      return std::exchange(errors.resumed, false);
    default:
      return false;
  }
}

void on_message(j_common_ptr info, int level) {
  auto& errors = static_cast<ErrorManager&>(*reinterpret_cast<JpegErrorExit*>(info->err));
  if (level < 0 && !is_harmless(errors)) jpeg_error_exit(info);
}

void on_output(j_common_ptr) {}

// libjpeg's chroma interpolation treats the edge of a cropped row as the edge of the picture; with
// this many more columns on both sides the wanted ones come out as in a whole decode.
constexpr int kMargin = 2;
constexpr int kRowsPerCall = 4;

class JpegDecoder {
 public:
  JpegDecoder() {
    info_.err = jpeg_std_error(&errors_.base);
    errors_.base.error_exit = jpeg_error_exit;
    errors_.base.emit_message = on_message;
    errors_.base.output_message = on_output;
    errors_.message[0] = 0;
    created_ = guarded([](JpegDecoder& self) { jpeg_create_decompress(&self.info_); });
  }
  ~JpegDecoder() {
    if (created_) jpeg_destroy_decompress(&info_);
  }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  // Decodes the columns and rows of `rect` (pixels at 1/denominator) into `out`.
  bool decode(Bytes file, const CropRect& rect, int denominator, Image& out) {
    file_ = file, rect_ = rect, denominator_ = denominator, out_ = &out;
    if (!created_ || !guarded([](JpegDecoder& self) { self.start(); })) return false;
    if (static_cast<int64_t>(info_.output_height) < rect.y + int64_t{rect.height} ||
        static_cast<int64_t>(info_.output_width) < left_ + int64_t{rect.width}) {
      std::snprintf(errors_.message, sizeof errors_.message, "two sizes in one file");
      return false;
    }
    out.resize(rect.width, rect.height);
    scratch_.resize(static_cast<size_t>(info_.output_width) * info_.output_components *
                    kRowsPerCall);
    return guarded([](JpegDecoder& self) { self.read_rows(); });
  }
  const char* message() const { return errors_.message; }
  NoteSet notes() const { return errors_.notes; }

 private:
  bool guarded(void (*step)(JpegDecoder&)) {
    if (setjmp(errors_.escape) != 0) return false;
    step(*this);
    return true;
  }

  void start() {
    jpeg_mem_src(&info_, file_.data(), file_.size());
    jpeg_read_header(&info_, TRUE);
    info_.out_color_space = info_.num_components == 4 ? JCS_CMYK : JCS_RGB;
    if (info_.num_components == 4 && !info_.saw_Adobe_marker)
      errors_.notes.add(ImageNote::plain_cmyk);
    info_.scale_num = 1;
    info_.scale_denom = static_cast<unsigned>(denominator_);
    info_.dct_method = JDCT_ISLOW;
    jpeg_start_decompress(&info_);
    JDIMENSION first = static_cast<JDIMENSION>(rect_.x > kMargin ? rect_.x - kMargin : 0);
    JDIMENSION last = static_cast<JDIMENSION>(rect_.x + rect_.width + kMargin);
    if (last > info_.output_width) last = info_.output_width;
    JDIMENSION width = last - first;
    left_ = static_cast<JDIMENSION>(rect_.x);
    if (width < info_.output_width) {
      jpeg_crop_scanline(&info_, &first, &width);  // moves `first` left to a block boundary
      left_ -= first;
    }
  }

  void read_rows() {
    if (rect_.y > 0) jpeg_skip_scanlines(&info_, static_cast<JDIMENSION>(rect_.y));
    const size_t pixel = static_cast<size_t>(info_.output_components);
    const size_t stride = info_.output_width * pixel;
    JSAMPROW rows[kRowsPerCall];
    for (int i = 0; i < kRowsPerCall; ++i) rows[i] = scratch_.data() + i * stride;
    for (int y = 0; y < rect_.height;) {
      const int n = static_cast<int>(jpeg_read_scanlines(&info_, rows, kRowsPerCall));
      for (int i = 0; i < n && y < rect_.height; ++i, ++y) {
        store(rows[i] + left_ * pixel, out_->row(y));
      }
    }
    if (info_.output_scanline == info_.output_height) jpeg_finish_decompress(&info_);
  }

  void store(const uint8_t* from, uint8_t* to) const {
    if (info_.output_components == 3) {
      std::memcpy(to, from, static_cast<size_t>(rect_.width) * 3);
      return;
    }
    for (int x = 0; x < rect_.width; ++x) {
      const int key = from[4 * x + 3];
      for (int c = 0; c < 3; ++c) {
        to[3 * x + c] = static_cast<uint8_t>((from[4 * x + c] * key + 127) / 255);
      }
    }
  }

  jpeg_decompress_struct info_{};
  ErrorManager errors_{};
  bool created_ = false;
  Bytes file_;
  CropRect rect_;
  int denominator_ = 1;
  JDIMENSION left_ = 0;  // of the crop in the rows that libjpeg delivers
  Image* out_ = nullptr;
  std::vector<uint8_t> scratch_;
};

}  // namespace

Box decode_jpeg(Bytes file, const JpegLayout& layout, const CropRect& crop, int min_width,
                int min_height, Image& out, NoteSet& notes, const std::string& name) {
  DCHECK(crop.x >= 0 && crop.y >= 0 && crop.width > 0 && crop.height > 0 &&
         crop.x + crop.width <= layout.width && crop.y + crop.height <= layout.height);
  int d = 1;
  while (d < 8 && min_width > 0 && min_height > 0 && crop.width >= 2 * d * min_width &&
         crop.height >= 2 * d * min_height) {
    d *= 2;
  }
  const auto up = [d](int n) { return (n + d - 1) / d; };
  CropRect rect{crop.x / d, crop.y / d, 0, 0};
  rect.width = up(crop.x + crop.width) - rect.x;
  rect.height = up(crop.y + crop.height) - rect.y;
  JpegDecoder decoder;
  CHECK_AS(Fault::bad_file, decoder.decode(file, rect, d, out), name,
           ": JPEG: ", decoder.message());
  notes.add(decoder.notes());
  const double s = 1.0 / d;
  return {crop.x * s - rect.x, crop.y * s - rect.y, (crop.x + crop.width) * s - rect.x,
          (crop.y + crop.height) * s - rect.y};
}

}  // namespace mullion

#endif  // MULLION_HAVE_TURBOJPEG
