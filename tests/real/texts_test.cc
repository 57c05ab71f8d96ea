// Texts and token files as other tools write them: the documents that Python reads in them, the ids
// that numpy reads.
#include "data/text_documents.h"
#include "data/token_file.h"
#include "tests/real/rows.h"

namespace mullion {
namespace {

using test::RealRow;

class RealTexts : public testing::TestWithParam<RealRow> {};

TEST_P(RealTexts, HoldWhatTheirMakersRead) {
  const RealRow& row = GetParam();
  if (row.fields.contains("dtype") || row.fields.contains("ids")) {
    const std::string dtype = row.fields.value("dtype", "");
    TokenFileOptions options;
    if (!dtype.empty()) options.width = dtype == "u16" ? TokenWidth::u16 : TokenWidth::u32;
    std::vector<int32_t> ids;
    const auto read = [&] {
      const TokenFile file(row.file, options);
      ids = file.read(0, file.size());
    };
    if (!read_as_expected(row, read)) return;
    EXPECT_EQ(ids, row.fields.at("ids").get<std::vector<int32_t>>());
    return;
  }
  DocumentOptions options;
  options.encoding = text_encoding(row.fields.value("encoding", "utf-8"));
  std::vector<std::string> documents;
  const auto read = [&] {
    read_documents({row.file}, options, [&](const std::string& text) {
      documents.push_back(text);
      return true;
    });
  };
  if (!read_as_expected(row, read)) return;
  EXPECT_EQ(documents, row.fields.at("documents").get<std::vector<std::string>>());
}

INSTANTIATE_REAL_ROWS(RealTexts, "texts");

}  // namespace
}  // namespace mullion
