// A header, then writes at the offsets it has announced; the name is given by commit().
#include "tensor/io/announced_file.h"

#include "tensor/check.h"

namespace mullion {

bool AnnouncedFile::announce(const std::string& name, uint64_t begin, uint64_t bytes) {
  return ranges_.emplace(name, Range{begin, bytes}).second;
}

void AnnouncedFile::write_header(std::string_view header) {
  file_.write_at(0, std::as_bytes(std::span(header)));
  header_bytes_ = header.size();
}

void AnnouncedFile::write(const std::string& name, std::span<const std::byte> bytes,
                          uint64_t alignment) {
  const auto found = ranges_.find(name);
  CHECK(found != ranges_.end(), path_, ": ", name, " was not announced to the writer");
  Range& range = found->second;
  CHECK(!range.written, path_, ": ", name, " is written twice");
  CHECK(bytes.size() == range.bytes, path_, ": ", name, ": ", bytes.size(), " bytes given, ",
        range.bytes, " announced");
  const uint64_t begin = header_bytes_ + range.begin;
  file_.write_at(begin, bytes);
  const std::string zeros((alignment - range.bytes % alignment) % alignment, '\0');
  if (!zeros.empty()) file_.write_at(begin + range.bytes, std::as_bytes(std::span(zeros)));
  range.written = true;
}

void AnnouncedFile::commit() {
  for (const auto& [name, range] : ranges_)
    CHECK(range.written, path_, ": ", name, " was never written");
  file_.commit();
}

}  // namespace mullion
