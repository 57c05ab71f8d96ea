// Conversations by the chat templates of tokenizers: the texts and ids that transformers makes of
// them.
#include "apps/llama/chat_messages.h"
#include "data/chat_template.h"
#include "tests/real/rows.h"

namespace mullion {
namespace {

using test::RealRow;

class RealChats : public testing::TestWithParam<RealRow> {};

TEST_P(RealChats, AreRenderedAsByTransformers) {
  const RealRow& row = GetParam();
  const auto tokenizer = load_tokenizer(row.file);
  const std::string name = row.fields.at("template");
  std::unique_ptr<ChatTemplate> chat;
  if (!read_as_expected(row, [&] { chat = std::make_unique<ChatTemplate>(name, *tokenizer); }))
    return;
  EXPECT_EQ(ChatTemplate("auto", *tokenizer).format(), chat->format());
  for (const auto& one : row.fields.at("cases")) {
    const auto turns = parse_messages(one.at("messages"), row.name);
    const std::string text = chat->prompt(turns);
    EXPECT_EQ(text, one.at("text").get<std::string>());
    EXPECT_EQ(tokenizer->encode(text, chat->encode_options()),
              one.at("ids").get<std::vector<int32_t>>())
        << text;
  }
}

INSTANTIATE_REAL_ROWS(RealChats, "chats");

}  // namespace
}  // namespace mullion
