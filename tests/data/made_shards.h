// Shards made in a folder of the test's own, member by member.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "data/image_shards.h"
#include "data/png.h"
#include "data/tar.h"
#include "tensor/check.h"
#include "tensor/io/file.h"

namespace mullion::test {

struct Member {
  std::string name, bytes;
};

inline std::string tar_of(const std::vector<Member>& members) {
  std::string tar;
  for (const Member& m : members)
    tar += tar_header(m.name, m.bytes.size()) + m.bytes +
           std::string(tar_padding(m.bytes.size()), '\0');
  return tar + std::string(1024, '\0');
}

inline std::string picture(int level) {
  Image image;
  image.resize(9, 7);
  image.pixels.assign(image.pixels.size(), static_cast<uint8_t>(level));
  const std::vector<uint8_t> png = encode_png(image);
  return {png.begin(), png.end()};
}

inline std::vector<Member> sample(const std::string& key, int level, int label) {
  return {{key + ".png", picture(level)}, {key + ".cls", std::to_string(label)}};
}

template <typename F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "(no error)";
}

class ShardFolder : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("shards-" + std::to_string(::getpid()));
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  // Several samples, one after another, as a shard.
  void put(const std::string& name, const std::vector<std::vector<Member>>& samples) {
    std::vector<Member> all;
    for (const auto& s : samples) all.insert(all.end(), s.begin(), s.end());
    write_whole_file(folder_ / name, tar_of(all));
  }
  void expect_error(const std::vector<std::string>& words,
                    const std::vector<std::string>* classes = nullptr) {
    const std::string text = error_of([&] { ImageShards(folder_, "train", classes); });
    for (const std::string& word : words)
      EXPECT_NE(text.find(word), std::string::npos) << word << ": " << text;
  }
  std::filesystem::path folder_;
};

}  // namespace mullion::test
