// Every byte counts where all are read; of more the blocks that are read lie over all of it.
#include "tensor/io/contents.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <vector>

namespace mullion {
namespace {

using Bytes = std::vector<std::byte>;
constexpr uint64_t kBlock = ContentsDigest::kBlock;

// `read`: filled with the first bytes of the blocks that were looked at.
std::string digest(const Bytes& bytes, uint64_t most = ContentsDigest::kMostBytes,
                   std::vector<uint64_t>* read = nullptr) {
  ContentsDigest d(bytes.size(), most);
  d.add("x", bytes.size(), [&](uint64_t begin, std::span<std::byte> out) {
    ASSERT_LE(begin + out.size(), bytes.size());
    std::memcpy(out.data(), bytes.data() + begin, out.size());
    if (read) read->push_back(begin);
  });
  return d.hex();
}

TEST(Contents, EveryByteCounts) {
  for (const size_t size : {size_t{1}, size_t{31}, size_t{33}, size_t{4096}, 2 * kBlock + 7}) {
    Bytes bytes(size, std::byte{3});
    std::set<std::string> seen = {digest(bytes)};
    size_t cases = 1;
    for (size_t at = 0; at < size; at += 1 + size / 97)
      for (const int bit : {1, 128}) {
        bytes[at] ^= static_cast<std::byte>(bit);
        seen.insert(digest(bytes));
        bytes[at] ^= static_cast<std::byte>(bit);
        ++cases;
      }
    bytes.push_back(std::byte{0});  // longer, by what padding would be
    seen.insert(digest(bytes));
    EXPECT_EQ(seen.size(), cases + 1) << size;
  }
}

TEST(Contents, OfMoreEveryKthBlockAndTheLast) {
  std::vector<uint64_t> read;
  digest(Bytes(10 * kBlock - 5), 4 * kBlock, &read);  // k = 3
  EXPECT_EQ(read, (std::vector<uint64_t>{0, 3 * kBlock, 6 * kBlock, 9 * kBlock}));
  read.clear();
  digest(Bytes(9 * kBlock), 8 * kBlock, &read);  // k = 2
  EXPECT_EQ(read, (std::vector<uint64_t>{0, 2 * kBlock, 4 * kBlock, 6 * kBlock, 8 * kBlock}));
  read.clear();
  digest(Bytes(kBlock - 1), 1, &read);
  EXPECT_EQ(read, std::vector<uint64_t>{0});
}

// Tensors in memory, in the order in which they are added.
class Source : public TensorSource {
 public:
  Source() : TensorSource("memory") {}
  void put(const std::string& name, std::vector<int64_t> shape, const std::vector<float>& values) {
    TensorEntry entry;
    entry.name = name;
    entry.shape = std::move(shape);
    entry.count = values.size();
    entry.bytes = values.size() * sizeof(float);
    entry.offset = values_.size();
    values_.push_back(values);
    add(entry);
  }
  void read_bytes(const TensorEntry& entry, uint64_t begin,
                  std::span<std::byte> dst) const override {
    const auto* bytes = reinterpret_cast<const std::byte*>(values_[entry.offset].data());
    std::memcpy(dst.data(), bytes + begin, dst.size());
  }

 private:
  std::vector<std::vector<float>> values_;
};

TEST(Contents, OfTensorsByNameWhateverTheirOrder) {
  const auto of = [](const std::vector<std::pair<std::string, std::vector<int64_t>>>& tensors) {
    Source source;
    for (const auto& [name, shape] : tensors) source.put(name, shape, {1, 2, 3, 4, 5, 6});
    return contents_digest(source);
  };
  const std::string ab = of({{"a", {2, 3}}, {"b", {6}}});
  EXPECT_EQ(ab, of({{"b", {6}}, {"a", {2, 3}}}));
  EXPECT_NE(ab, of({{"a", {3, 2}}, {"b", {6}}}));
  EXPECT_NE(ab, of({{"a", {2, 3}}, {"c", {6}}}));
  EXPECT_NE(ab, of({{"a", {2, 3}}}));
}

}  // namespace
}  // namespace mullion
