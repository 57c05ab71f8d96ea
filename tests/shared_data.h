// Where tests find real data that may not be copied into the project: the folder `shared` beside
// the checkout, or the one named by the environment variable MULLION_SHARED.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/source_dir.h"

namespace mullion::test {

inline std::filesystem::path shared_path(const std::string& relative) {
  if (const char* root = std::getenv("MULLION_SHARED"))
    return std::filesystem::path(root) / relative;
  return std::filesystem::path(test::source_dir) / ".." / "shared" / relative;
}

// SmolLM2-135M-Instruct as a GGUF file, where tools/fetch_smollm2.sh puts it: MULLION_SMOLLM2 names
// it, or it lies in models_cache of the checkout or in the cache folder that .ci/run uses.
inline std::filesystem::path smollm2_path() {
  if (const char* file = std::getenv("MULLION_SMOLLM2")) return file;
  const std::string name = "SmolLM2-135M-Instruct.Q4_1.gguf";
  std::vector<std::filesystem::path> folders = {std::string(test::source_dir) + "/models_cache"};
  if (const char* cache = std::getenv("MULLION_CACHE")) folders.emplace_back(cache);
  if (const char* cache = std::getenv("XDG_CACHE_HOME"))
    folders.push_back(std::filesystem::path(cache) / "mullion");
  if (const char* home = std::getenv("HOME"))
    folders.push_back(std::filesystem::path(home) / ".cache/mullion");
  for (const auto& folder : folders)
    if (std::filesystem::exists(folder / name)) return folder / name;
  return folders[0] / name;
}

}  // namespace mullion::test

// Skips the test, saying so, where the file or folder is absent.
#define REQUIRE_SHARED(relative)                                        \
  if (!std::filesystem::exists(::mullion::test::shared_path(relative))) \
  GTEST_SKIP() << "needs shared/" << (relative) << ", which is not on this machine"

// The same for the model; a path that MULLION_SMOLLM2 names has to be there.
#define REQUIRE_SMOLLM2()                                                                       \
  if (std::getenv("MULLION_SMOLLM2") != nullptr)                                                \
    ASSERT_TRUE(std::filesystem::exists(::mullion::test::smollm2_path())) << "MULLION_SMOLLM2"; \
  else if (!std::filesystem::exists(::mullion::test::smollm2_path()))                           \
  GTEST_SKIP() << "needs SmolLM2 (tools/fetch_smollm2.sh) or MULLION_SMOLLM2"
