// Protobuf fields by hand, a record at a time, flushed as it is written.
#include "apps/run/tensorboard.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>

#include "apps/run/launch.h"
#include "apps/run/metrics.h"
#include "data/protobuf.h"

namespace mullion {

namespace {
// CRC-32C (Castagnoli), reflected polynomial 0x82f63b78, one byte at a time.
constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c & 1) != 0 ? 0x82f63b78u ^ (c >> 1) : c >> 1;
    table[i] = c;
  }
  return table;
}

std::string event(double time, int64_t step) {
  return double_field(1, time) + (step == 0 ? "" : integer_field(2, step));
}
// Event { summary { value { tag, ... } } }
std::string summary_event(double time, int64_t step, std::string_view tag,
                          const std::string& value) {
  return event(time, step) + bytes_field(5, bytes_field(1, bytes_field(1, tag) + value));
}

double now() {
  using namespace std::chrono;
  return duration<double>(system_clock::now().time_since_epoch()).count();
}

std::filesystem::path file_name(const std::filesystem::path& run) {
  const std::string stem = "events.out.tfevents." + std::to_string(static_cast<int64_t>(now())) +
                           "." + host_name() + "." + std::to_string(::getpid()) + ".";
  for (int i = 0;; ++i) {
    const auto path = run / (stem + std::to_string(i));
    if (!std::filesystem::exists(path)) return path;
  }
}
}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr auto kTable = crc_table();
  uint32_t crc = 0xffffffffu;
  for (const char c : bytes)
    crc = kTable[(crc ^ static_cast<unsigned char>(c)) & 0xff] ^ (crc >> 8);
  return crc ^ 0xffffffffu;
}

uint32_t masked_crc32c(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

std::string event_record(std::string_view payload) {
  const std::string length = little_endian(static_cast<uint64_t>(payload.size()));
  return length + little_endian(masked_crc32c(length)) + std::string(payload) +
         little_endian(masked_crc32c(payload));
}

std::string version_event(double time) { return event(time, 0) + bytes_field(3, "brain.Event:2"); }

std::string start_event(double time, int64_t step) {
  return event(time, step) + bytes_field(7, integer_field(1, 1));
}

std::string scalar_event(double time, int64_t step, std::string_view tag, float value) {
  return summary_event(time, step, tag, float_field(2, value));
}

std::string text_event(double time, int64_t step, std::string_view tag, std::string_view text) {
  const std::string shape = bytes_field(2, bytes_field(2, integer_field(1, 1)));
  const std::string tensor = integer_field(1, 7) + shape + bytes_field(8, text);
  const std::string metadata = bytes_field(9, bytes_field(1, bytes_field(1, "text")));
  return summary_event(time, step, tag, bytes_field(8, tensor) + metadata);
}

std::string image_event(double time, int64_t step, std::string_view tag, int64_t height,
                        int64_t width, std::string_view png) {
  const std::string image = integer_field(1, height) + integer_field(2, width) +
                            integer_field(3, 3) + bytes_field(4, png);
  return summary_event(time, step, tag, bytes_field(4, image));
}

EventWriter::EventWriter(const std::filesystem::path& run, int64_t first_step)
    : file_(std::make_unique<LineFile>(file_name(run))) {
  write(version_event(now()));
  if (first_step > 0) write(start_event(now(), first_step));
}

EventWriter::~EventWriter() = default;

void EventWriter::write(const std::string& payload) { file_->append_bytes(event_record(payload)); }

void EventWriter::scalar(std::string_view tag, double value, int64_t step) {
  write(scalar_event(now(), step, tag, static_cast<float>(value)));
}

void EventWriter::text(std::string_view tag, std::string_view text, int64_t step) {
  write(text_event(now(), step, tag, text));
}

void EventWriter::image(std::string_view tag, int64_t height, int64_t width, std::string_view png,
                        int64_t step) {
  write(image_event(now(), step, tag, height, width, png));
}

}  // namespace mullion
