// The stored forms of floats, bit for bit as the PyPI package gguf writes them.
#include "tensor/io/gguf.h"
#include "tensor/io/quantize.h"
#include "tests/real/rows.h"

namespace mullion {
namespace {

class RealBlocks : public testing::TestWithParam<test::RealRow> {};

TEST_P(RealBlocks, HaveTheirBits) {
  const test::RealRow& row = GetParam();
  const GgufFile file(row.file);
  const TensorEntry& entry = file.at(row.name);
  ASSERT_EQ(name_of(entry.type), row.name);
  std::vector<std::byte> right(entry.bytes);
  file.read_raw(row.name, right);
  const std::vector<std::byte> ours = stored_as(file, "values", entry.type);
  ASSERT_EQ(ours.size(), right.size());
  const uint64_t block = layout_of(entry.type).block_bytes;
  for (size_t i = 0; i < right.size(); ++i)
    ASSERT_EQ(static_cast<int>(ours[i]), static_cast<int>(right[i]))
        << "byte " << i % block << " of block " << i / block;
}

}  // namespace

INSTANTIATE_REAL_ROWS(RealBlocks, "blocks");
}  // namespace mullion
