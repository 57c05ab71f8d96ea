// A fresh folder for one test, removed at its end; in memory where the system has such a place,
// since the tests of the protocol sync thousands of times.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <string>

namespace mullion::test {

class TemporaryRun {
 public:
  TemporaryRun() {
    static std::atomic<int> counter{0};
    const bool memory = ::access("/dev/shm", W_OK | X_OK) == 0;
    path_ = std::filesystem::path(memory ? "/dev/shm" : testing::TempDir()) /
            ("mullion-" + std::to_string(::getpid()) + "-" + std::to_string(counter++));
    std::filesystem::create_directories(path_);
  }
  ~TemporaryRun() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryRun(const TemporaryRun&) = delete;
  TemporaryRun& operator=(const TemporaryRun&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace mullion::test
