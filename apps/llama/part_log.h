// What a job over many rows has found so far, a JSON object a line, so that a job that was stopped
// goes on where it was. In front stands what decides the lines: options, and files by size and
// time.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/options/options.h"

namespace mullion {

// What decides the lines, as it stands in front. Not the options that may change on resuming.
std::string run_identity(const Options& options, const std::string& what);

class PartLog {
 public:
  // Goes on with the lines that are there. Error(usage) where they are of other options, of files
  // that have changed, or of another `what`; Error(disk) where the file cannot be written.
  PartLog(std::filesystem::path file, const Options& options, const std::string& what);
  // Those that were there.
  const std::vector<nlohmann::json>& found() const { return found_; }
  // On disk when it returns.
  void add(const std::string& line);
  // Takes the file away: what it holds stands elsewhere now.
  void remove();
  const std::filesystem::path& file() const { return file_; }

 private:
  std::filesystem::path file_;
  std::vector<nlohmann::json> found_;
};

}  // namespace mullion
