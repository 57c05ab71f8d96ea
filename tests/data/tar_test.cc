// The end of a tar archive: two zero blocks and nothing but zeros behind them, in an archive of its
// own and in one inside another.
#include "data/tar.h"

#include "tests/data/made_shards.h"

namespace mullion {
namespace {

using test::tar_of;

const std::string kBlock(512, '\0');

// The names of the members, or the error.
std::string read(const std::string& bytes, size_t begin = 0, size_t size = std::string::npos) {
  const auto source = view_bytes(std::as_bytes(std::span(bytes)), "a.tar");
  std::string names;
  try {
    TarReader tar(*source, begin, std::min(size, bytes.size() - begin), "a.tar");
    TarMember member;
    while (tar.next(member)) names += member.name + " ";
    EXPECT_FALSE(tar.next(member));
  } catch (const Error& error) {
    return error.what();
  }
  return names;
}

TEST(Tar, ZerosUpToTheEndCloseAnArchive) {
  const std::string tar = tar_of({{"a", "1"}, {"b", "2"}});
  EXPECT_EQ(read(tar), "a b ");
  EXPECT_EQ(read(tar + std::string(300000, '\0')), "a b ");
}

TEST(Tar, WhatFollowsAZeroBlockIsNotLost) {
  std::string tar = tar_of({{"a", "1"}, {"b", "2"}, {"c", "3"}});
  // A header of zeros, here b's at byte 1024.
  std::string damaged = tar;
  damaged.replace(1024, 512, kBlock);
  EXPECT_EQ(read(damaged).find("a.tar: byte 1024: a zero block"), 0u) << read(damaged);
  EXPECT_NE(read(damaged).find("follows at byte 1536"), std::string::npos) << read(damaged);
  // Two archives, one behind the other, with much between them.
  const std::string two = tar + std::string(512 * 200, '\0') + tar;
  EXPECT_NE(read(two).find("byte 3072: a zero block"), std::string::npos) << read(two);
  EXPECT_NE(read(two).find("appended"), std::string::npos) << read(two);
  // Inside another archive the outer one's bytes do not count.
  EXPECT_EQ(read(two, 0, tar.size()), "a b c ");
  EXPECT_EQ(read(two, two.size() - tar.size()), "a b c ");
}

TEST(Tar, OneZeroBlockIsACutEnd) {
  const std::string tar = tar_of({{"a", "1"}, {"b", "2"}});
  EXPECT_NE(read(tar.substr(0, tar.size() - 512)).find("byte 2048: one zero block"),
            std::string::npos);
  EXPECT_NE(read(tar.substr(0, tar.size() - 1)).find("cut"), std::string::npos);
  EXPECT_NE(read(tar.substr(0, tar.size() - 1024)).find("cut"), std::string::npos);
}

}  // namespace
}  // namespace mullion
