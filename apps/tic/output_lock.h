// A folder that one process at a time writes data into.
#pragma once
#include <filesystem>

namespace mullion {

class OutputLock {
 public:
  // Makes the folder where it is missing. Error(disk) where another process holds it.
  explicit OutputLock(const std::filesystem::path& folder);
  ~OutputLock();
  OutputLock(const OutputLock&) = delete;
  OutputLock& operator=(const OutputLock&) = delete;

 private:
  std::filesystem::path file_;
  int fd_ = -1;
};

}  // namespace mullion
