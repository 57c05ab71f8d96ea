// Lines of standard input, from a terminal or a script.
#pragma once
#include <string>

namespace mullion {

class LineReader {
 public:
  enum class Got { line, end, signal };
  // Waits for a line, without its line break; a last one may have none. `signal`: a stop was
  // requested meanwhile, and what was typed is dropped. The bytes are as they came. Error(bad_file)
  // for a line of more than 64 MiB, after which the next one can be read, and where nothing can be
  // read any more.
  Got read(std::string& line);
  uint64_t line_number() const { return number_; }

 private:
  bool take(std::string& line);
  std::string pending_;
  size_t searched_ = 0;
  bool skips_ = false;  // the rest of a line that is too long
  uint64_t number_ = 0;
  bool at_end_ = false;
};

}  // namespace mullion
