// The lines of a file that may be longer than memory, one at a time.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "tensor/io/file.h"

namespace mullion {

struct TextLine {
  std::string bytes = {};  // without its line break
  uint64_t number = 0;     // from 1
  uint64_t offset = 0;     // of its first byte in the file
};

// Calls use(line) for each; false ends the reading, and is returned. Error(bad_file) for a line of
// more than `max_bytes`. The text after the last line break is a line if it is not empty.
bool read_lines(const ByteSource& bytes, uint64_t max_bytes,
                const std::function<bool(TextLine)>& use);

}  // namespace mullion
