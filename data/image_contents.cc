// Names first, then the bytes of some.
#include "data/image_contents.h"

#include <algorithm>
#include <span>
#include <vector>

#include "tensor/check.h"
#include "tensor/io/contents.h"
#include "tensor/io/sha256.h"

namespace mullion {

std::string contents_digest(const ImageSource& source) {
  constexpr int64_t kPictures = 256;
  Sha256 hash;
  hash.update(digest(source));
  std::vector<uint8_t> bytes;
  const int64_t pictures = std::min(source.size(), kPictures);
  for (int64_t i = 0; i < pictures; ++i) {
    uint64_t number = 0;
    try {
      source.read(i * source.size() / pictures, bytes);
      number = block_hash(std::as_bytes(std::span(bytes)));
    } catch (const Error&) {  // a few may be unreadable, on all ranks alike
    }
    hash.update(&number, sizeof number);
  }
  return hash.hex();
}

}  // namespace mullion
