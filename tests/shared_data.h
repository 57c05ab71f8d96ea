// Where tests find real data that may not be copied into the project: the folder `shared` beside
// the checkout, or the one named by the environment variable MULLION_SHARED.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace mullion::test {

inline std::filesystem::path shared_path(const std::string& relative) {
  if (const char* root = std::getenv("MULLION_SHARED"))
    return std::filesystem::path(root) / relative;
  return std::filesystem::path(MULLION_SOURCE_DIR) / ".." / "shared" / relative;
}

}  // namespace mullion::test

// Skips the test, saying so, where the file or folder is absent.
#define REQUIRE_SHARED(relative)                                        \
  if (!std::filesystem::exists(::mullion::test::shared_path(relative))) \
  GTEST_SKIP() << "needs shared/" << (relative) << ", which is not on this machine"
