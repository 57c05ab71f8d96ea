// A quick digest of what files hold, for processes that must hold the same: ranks of one run, which
// may find other files under the same names.
//
// Each block of 64 KiB becomes a number of 64 bits: its words of 8 bytes go through four lanes, by
// steps that can be undone (xor, product with an odd number, xor with the own upper half), so that
// blocks that differ in one word never have the same number, and others do by a chance of 2^-64. It
// is no seal against who wants it so: for that there is sha256.h.
//
// What it sees: all bytes of up to kMostBytes; of more every k-th block of each item (a tensor, a
// file), its last one too, with the smallest k for which that is about kMostBytes. A difference
// that lies between those blocks of a larger model, and nowhere else, is not seen.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "tensor/io/sha256.h"
#include "tensor/io/tensor_source.h"

namespace mullion {

// The number of a block.
uint64_t block_hash(std::span<const std::byte> bytes);

class ContentsDigest {
 public:
  static constexpr uint64_t kBlock = 64 << 10, kMostBytes = uint64_t{1} << 30;

  // `total`: bytes of all items.
  explicit ContentsDigest(uint64_t total, uint64_t most = kMostBytes)
      : stride_(total <= most ? 1 : (total - 1) / most + 1) {}
  // `read(begin, out)` gives the bytes [begin, begin + out.size()) of the item; `begin` is a
  // multiple of kBlock.
  void add(const std::string& name, uint64_t bytes,
           const std::function<void(uint64_t, std::span<std::byte>)>& read);
  // The same of `count` ids, of which `read(begin, out)` gives those from `begin` on.
  void add_ids(uint64_t count, const std::function<void(uint64_t, std::span<int32_t>)>& read);
  std::string hex() { return hash_.hex(); }  // once

 private:
  uint64_t stride_;  // k
  Sha256 hash_;
};

// Of all tensors, by their names, types and shapes, in whatever files and order they are.
std::string contents_digest(const TensorSource& source);

}  // namespace mullion
