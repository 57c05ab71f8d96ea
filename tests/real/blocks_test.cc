// The stored forms of floats, bit for bit as the PyPI package gguf writes them.
#include "tensor/io/gguf.h"
#include "tensor/io/quantize.h"
#include "tests/real/rows.h"

namespace mullion {
namespace {

class RealBlocks : public testing::TestWithParam<test::RealRow> {};

// Blocks that another tool wrote have the values that it reads in them; values that it wrote as
// blocks become those blocks.
TEST_P(RealBlocks, HaveTheirBits) {
  const test::RealRow& row = GetParam();
  const GgufFile file(row.file);
  const auto type = row.fields.at("type").get<std::string>();
  const TensorEntry& entry = file.at(type);
  ASSERT_EQ(name_of(entry.type), type);
  if (row.fields.contains("values")) {
    std::vector<uint32_t> values(entry.count), right(entry.count);
    file.read_f32(type, reinterpret_cast<float*>(values.data()));
    file.read_raw(row.fields["values"].get<std::string>(),
                  std::as_writable_bytes(std::span(right)));
    for (size_t i = 0; i < right.size(); ++i) ASSERT_EQ(values[i], right[i]) << "element " << i;
    return;
  }
  std::vector<std::byte> right(entry.bytes);
  file.read_raw(type, right);
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
