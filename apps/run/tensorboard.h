// TensorBoard event files, written without TensorFlow:
//   record = u64 length | masked CRC-32C of the length | payload | masked CRC-32C of the payload
// with an Event in protobuf wire format as payload. A resumed run writes a new file that begins
// with a SessionLog START at its first step; readers then drop what older files say of later steps.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace mullion {

class LineFile;

uint32_t crc32c(std::string_view bytes);
uint32_t masked_crc32c(std::string_view bytes);
std::string event_record(std::string_view payload);
// Payloads of events; `time` in seconds since 1970.
std::string version_event(double time);
std::string start_event(double time, int64_t step);
std::string scalar_event(double time, int64_t step, std::string_view tag, float value);
std::string text_event(double time, int64_t step, std::string_view tag, std::string_view text);
std::string image_event(double time, int64_t step, std::string_view tag, int64_t height,
                        int64_t width, std::string_view png);

class EventWriter {
 public:
  // A new file events.out.tfevents.* in `run`. `first_step` > 0: a resumed run's first step.
  explicit EventWriter(const std::filesystem::path& run, int64_t first_step = 0);
  ~EventWriter();
  void scalar(std::string_view tag, double value, int64_t step);
  void text(std::string_view tag, std::string_view text, int64_t step);
  void image(std::string_view tag, int64_t height, int64_t width, std::string_view png,
             int64_t step);

 private:
  void write(const std::string& payload);
  std::unique_ptr<LineFile> file_;
};

}  // namespace mullion
