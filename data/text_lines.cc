// Blocks of 1 MiB, of which a line may take several.
#include "data/text_lines.h"

#include <algorithm>
#include <span>
#include <utility>

#include "tensor/check.h"

namespace mullion {

bool read_lines(const ByteSource& bytes, uint64_t max_bytes,
                const std::function<bool(TextLine)>& use) {
  constexpr uint64_t kBlockBytes = 1 << 20;
  TextLine line{.number = 1};
  std::string block;
  const auto finish = [&] {
    const TextLine next{.number = line.number + 1, .offset = line.offset + line.bytes.size() + 1};
    return use(std::exchange(line, next));
  };
  for (uint64_t at = 0; at < bytes.size(); at += block.size()) {
    block.resize(std::min(kBlockBytes, bytes.size() - at));
    bytes.read_at(at, std::as_writable_bytes(std::span(block)));
    for (size_t begin = 0; begin < block.size();) {
      const size_t end = block.find('\n', begin);
      const bool ends = end != std::string::npos;
      line.bytes.append(block, begin, (ends ? end : block.size()) - begin);
      CHECK_AS(Fault::bad_file, line.bytes.size() <= max_bytes, bytes.name(), ": line ",
               line.number, " has more than ", max_bytes, " bytes");
      begin = ends ? end + 1 : block.size();
      if (ends && !finish()) return false;
    }
  }
  return line.bytes.empty() || finish();
}

}  // namespace mullion
