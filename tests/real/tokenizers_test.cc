// Tokenizers as other tools write them: the ids that these tools give for the same texts, with and
// without special tokens in them, the texts that they give for these ids, which special tokens
// there are, and who said so.
#include "data/tokenizer.h"

#include <unistd.h>

#include <filesystem>

#include "tensor/check.h"
#include "tensor/io/json.h"
#include "tests/real/rows.h"

namespace mullion {
namespace {

using test::RealRow;
using Ids = std::vector<int32_t>;

// Of "lead", in a folder whose tokenizer.json has this template, beside these other files.
Ids ids_with_ends(const std::filesystem::path& tokenizer_json, const nlohmann::json& files) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / concat("mullion_ends_", ::getpid());
  std::filesystem::create_directories(folder);
  nlohmann::json tree = read_json_file(tokenizer_json);
  tree["post_processor"] = files.at("post_processor");
  write_json_file(folder / "tokenizer.json", tree);
  for (const std::string name : {"tokenizer_config", "config"})
    if (!files.at(name).is_null()) write_json_file(folder / (name + ".json"), files.at(name));
  const auto tokenizer = load_tokenizer(folder);
  const Ids ids =
      tokenizer->encode("lead", {.bos = tokenizer->add_bos(), .eos = tokenizer->add_eos()});
  std::filesystem::remove_all(folder);
  return ids;
}

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
  for (const auto& one : row.fields.value("ends", nlohmann::json::array()))
    EXPECT_EQ(ids_with_ends(row.file, one), one.at("ids").get<Ids>())
        << one.at("tokenizer_config") << one.at("post_processor");
  const auto notes = row.fields.value("notes", std::vector<std::string>());
  EXPECT_EQ(tokenizer->parts().notes.size(), notes.size())
      << testing::PrintToString(tokenizer->parts().notes);
  for (size_t i = 0; i < std::min(notes.size(), tokenizer->parts().notes.size()); ++i)
    EXPECT_NE(tokenizer->parts().notes[i].find(notes[i]), std::string::npos) << notes[i];
}

INSTANTIATE_REAL_ROWS(RealTokenizers, "tokenizers");

}  // namespace
}  // namespace mullion
