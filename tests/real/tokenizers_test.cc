// Tokenizers as other tools write them: the ids that these tools give for the same texts, with and
// without special tokens in them, the texts that they give for these ids, which special tokens
// there are, and who said so.
#include "data/tokenizer.h"
#include "tests/real/rows.h"

namespace mullion {
namespace {

using test::RealRow;
using Ids = std::vector<int32_t>;

class RealTokenizers : public testing::TestWithParam<RealRow> {};

TEST_P(RealTokenizers, GiveTheIdsOfTheirMakers) {
  const RealRow& row = GetParam();
  std::unique_ptr<Tokenizer> tokenizer;
  if (!read_as_expected(row, [&] { tokenizer = load_tokenizer(row.file); })) return;
  for (const auto& one : row.fields.at("cases")) {
    const std::string text = one[0];
    EXPECT_EQ(tokenizer->encode(text, {.parse_specials = true}), one[1].get<Ids>())
        << testing::PrintToString(text);
    if (!one[2].is_null()) {
      EXPECT_EQ(tokenizer->encode(text), one[2].get<Ids>()) << testing::PrintToString(text);
    }
    if (one.size() > 3) {
      EXPECT_EQ(tokenizer->decode(one[1].get<Ids>(), {.specials = true}),
                one[3].get<std::string>());
      EXPECT_EQ(tokenizer->decode(one[1].get<Ids>()), one[4].get<std::string>());
    }
  }
  if (row.fields.contains("size")) {
    EXPECT_EQ(tokenizer->vocab_size(), row.fields.at("size"));
    EXPECT_EQ(tokenizer->bos(), row.fields.at("bos").get<int32_t>());
    EXPECT_EQ(tokenizer->eos(), row.fields.at("eos").get<int32_t>());
  }
  const auto origins = row.fields.value("origins", std::map<std::string, std::string>());
  for (const auto& [what, from] : origins) {
    const auto found = tokenizer->parts().origins.find(what);
    ASSERT_NE(found, tokenizer->parts().origins.end()) << what;
    EXPECT_EQ(found->second, from) << what;
  }
  const auto notes = row.fields.value("notes", std::vector<std::string>());
  EXPECT_EQ(tokenizer->parts().notes.size(), notes.size())
      << testing::PrintToString(tokenizer->parts().notes);
  for (size_t i = 0; i < std::min(notes.size(), tokenizer->parts().notes.size()); ++i)
    EXPECT_NE(tokenizer->parts().notes[i].find(notes[i]), std::string::npos) << notes[i];
}

INSTANTIATE_REAL_ROWS(RealTokenizers, "tokenizers");

}  // namespace
}  // namespace mullion
