// Four lanes a block; names, sizes and the numbers of the blocks make the digest.
#include "tensor/io/contents.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "tensor/check.h"

namespace mullion {
namespace {

uint64_t mixed(uint64_t state, uint64_t word) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15;  // 2^64 over the golden ratio
  state = (state ^ word) * kOdd;
  return state ^ (state >> 32);
}

}  // namespace

uint64_t block_hash(std::span<const std::byte> bytes) {
  using Words = std::array<uint64_t, 4>;
  Words lanes = {1, 2, 3, 4};
  const auto take = [&](const Words& words) {
    for (size_t lane = 0; lane < lanes.size(); ++lane)
      lanes[lane] = mixed(lanes[lane], words[lane]);
  };
  size_t at = 0;
  for (Words words; at + sizeof words <= bytes.size(); at += sizeof words) {
    std::memcpy(words.data(), bytes.data() + at, sizeof words);
    take(words);
  }
  Words last = {};
  if (at < bytes.size()) std::memcpy(last.data(), bytes.data() + at, bytes.size() - at);
  take(last);
  uint64_t hash = bytes.size();
  for (const uint64_t lane : lanes) hash = mixed(hash, lane);
  return hash;
}

void ContentsDigest::add(const std::string& name, uint64_t bytes,
                         const std::function<void(uint64_t, std::span<std::byte>)>& read) {
  hash_.update(concat(name.size(), " ", name, " ", bytes, " "));
  std::vector<std::byte> block;
  const uint64_t blocks = (bytes + kBlock - 1) / kBlock;
  for (uint64_t i = 0; i < blocks;
       i = i + 1 < blocks ? std::min(i + stride_, blocks - 1) : blocks) {
    block.resize(std::min(kBlock, bytes - i * kBlock));
    read(i * kBlock, block);
    const uint64_t number = block_hash(block);
    hash_.update(&number, sizeof number);
  }
}

void ContentsDigest::add_ids(uint64_t count,
                             const std::function<void(uint64_t, std::span<int32_t>)>& read) {
  std::vector<int32_t> ids;
  add("", count * sizeof(int32_t), [&](uint64_t begin, std::span<std::byte> out) {
    ids.resize(out.size() / sizeof(int32_t));
    read(begin / sizeof(int32_t), ids);
    std::memcpy(out.data(), ids.data(), out.size());
  });
}

std::string contents_digest(const TensorSource& source) {
  std::vector<const TensorEntry*> entries;
  uint64_t total = 0;
  for (const TensorEntry& entry : source.entries()) {
    entries.push_back(&entry);
    total += entry.bytes;
  }
  std::sort(entries.begin(), entries.end(),
            [](const TensorEntry* a, const TensorEntry* b) { return a->name < b->name; });
  ContentsDigest digest(total);
  for (const TensorEntry* entry : entries)
    digest.add(
        concat(entry->name, " ", name_of(entry->type), " ", shape_text(entry->shape)), entry->bytes,
        [&](uint64_t begin, std::span<std::byte> out) { source.read_bytes(*entry, begin, out); });
  return digest.hex();
}

}  // namespace mullion
