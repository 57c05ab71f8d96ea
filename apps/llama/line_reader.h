// Lines of standard input, from a terminal or a script.
#pragma once
#include <string>

namespace mullion {

class LineReader {
 public:
  enum class Got { line, end, signal };
  // Waits for a line, without its line break; a last one may have none. `signal`: a stop was
  // requested meanwhile, and what was typed is dropped. Error(bad_file) for a line of more than 64
  // MiB, or that is no UTF-8.
  Got read(std::string& line);
  uint64_t line_number() const { return number_; }

 private:
  bool take(std::string& line);
  std::string pending_;
  size_t searched_ = 0;
  uint64_t number_ = 0;
  bool at_end_ = false;
};

}  // namespace mullion
