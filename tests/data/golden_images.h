// The committed pictures of tools/make_image_goldens.py and how to compare with them.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "data/image.h"
#include "tests/source_dir.h"

namespace mullion::test {

inline std::string golden_path(const std::string& file) {
  return std::string(test::source_dir) + "/tests/golden/images/" + file;
}

inline std::vector<uint8_t> file_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// The entries of index.json of one kind: "jpeg", "png" or "resize".
inline std::vector<nlohmann::json> golden_entries(const std::string& kind) {
  std::ifstream in(golden_path("index.json"));
  std::vector<nlohmann::json> found;
  for (const auto& entry : nlohmann::json::parse(in)) {
    if (entry["kind"] == kind) found.push_back(entry);
  }
  EXPECT_FALSE(found.empty());
  return found;
}

inline int largest_difference(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  EXPECT_EQ(a.size(), b.size());
  int largest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    largest = std::max(largest, std::abs(int{a[i]} - int{b[i]}));
  }
  return largest;
}

}  // namespace mullion::test
