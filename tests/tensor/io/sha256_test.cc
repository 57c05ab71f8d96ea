// The published vectors of FIPS 180-4 / NIST CAVP, and independence of how the message is cut.
#include "tensor/io/sha256.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace mullion {
namespace {

TEST(Sha256, PublishedVectors) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PiecesGiveTheDigestOfTheWhole) {
  std::string message;
  for (int i = 0; i < 300; ++i) message += static_cast<char>(i * 7);
  for (size_t length : {55u, 56u, 63u, 64u, 65u, 119u, 120u, 128u, 300u}) {
    std::string_view whole(message.data(), length);
    for (size_t step : {1u, 3u, 63u, 64u, 65u}) {
      Sha256 hash;
      for (size_t at = 0; at < length; at += step) hash.update(whole.substr(at, step));
      EXPECT_EQ(hash.hex(), sha256_hex(whole)) << length << " by " << step;
    }
  }
}

}  // namespace
}  // namespace mullion
