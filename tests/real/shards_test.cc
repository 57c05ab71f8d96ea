// WebDataset shards as other tools write them: keys, classes and bytes as webdataset's own reader
// gives them; and archives that must be refused, by name.
#include "data/image_shards.h"
#include "tensor/io/file.h"
#include "tensor/io/sha256.h"
#include "tests/real/rows.h"

namespace mullion {
namespace {

using test::RealRow;

class RealShards : public testing::TestWithParam<RealRow> {};

TEST_P(RealShards, HaveTheSamplesThatWebdatasetReads) {
  const RealRow& row = GetParam();
  ShardIndex index;
  if (!read_as_expected(row, [&] { index = index_shard(row.file); })) return;
  const auto& samples = row.fields.at("samples");
  ASSERT_EQ(index.samples.size(), samples.size());
  const auto shard = open_file(row.file);
  for (size_t i = 0; i < samples.size(); ++i) {
    const ShardSample& s = index.samples[i];
    std::string key = samples[i][0];
    if (key.starts_with("./")) key.erase(0, 2);
    EXPECT_EQ(s.key, key);
    EXPECT_EQ(s.label, samples[i][1]);
    std::string bytes(s.size, '\0');
    shard->read_at(s.offset, std::as_writable_bytes(std::span(bytes)));
    EXPECT_EQ(sha256_hex(bytes).substr(0, 16), samples[i][2]);
  }
}

INSTANTIATE_REAL_ROWS(RealShards, "shards");

}  // namespace
}  // namespace mullion
