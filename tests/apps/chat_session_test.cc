// The session of a chat against a model that sees each conversation for the first time: what a turn
// costs, and what is left after turns were taken back.
#include "apps/llama/chat_session.h"

#include <gtest/gtest.h>

#include "tensor/check.h"
#include "tests/apps/chat_model.h"

namespace mullion {
namespace {

constexpr double kNear = 2e-4;

class ChatSessions : public ::testing::Test {
 protected:
  ChatSessions() : model_(test::chat_config(2048)), tokenizer_(test::chat_tokenizer()) {
    model_.initialize(3);
  }
  ChatSession session(const ChatTemplate& chat, const KvCacheOptions& cache = {}) const {
    return {model_, *tokenizer_, chat, cache};
  }
  // The answer as a user reads it; control tokens end it.
  std::string answer(ChatSession& session, int64_t tokens = 6) const {
    GenerateOptions how;
    how.max_tokens = tokens;
    for (int32_t id = 256; id < test::kChatVocab; ++id) how.stop_ids.push_back(id);
    const Generated generated = session.answer(how);
    const std::string text = tokenizer_->decode(generated.ids);
    session.end_answer(text);
    return text;
  }
  // What a model predicts that sees the turns at once.
  std::vector<float> afresh(const ChatTemplate& chat, std::vector<Turn> turns) const {
    Generation one(model_, {});
    const auto row = one.add();
    one.feed(row, tokenizer_->encode(chat.prompt(turns), chat.encode_options()));
    return one.logits(row);
  }
  static void near(const std::vector<float>& a, const std::vector<float>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], kNear) << i;
  }

  Llama model_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(ChatSessions, ATurnCostsItsOwnTokens) {
  for (const char* name : {"chatml", "llama2", "llama3", "zephyr", "vicuna", "alpaca", "none"}) {
    const ChatTemplate chat(name, *tokenizer_);
    ChatSession s = session(chat);
    if (std::string(name) != "none") s.set_system("Be brief.");
    int64_t written = 0;
    for (int turn = 0; turn < 20; ++turn) {
      const int64_t fed = s.fed();
      const int64_t seen = turn == 0 ? 0 : s.cache().position();
      ASSERT_TRUE(s.ask("turn " + std::to_string(turn)));
      EXPECT_EQ(s.cache().position(), std::ssize(s.plan().ids)) << name;
      EXPECT_EQ(s.plan().text, chat.prompt(s.turns())) << name;
      // What was fed is what the cache had not seen; a template that trims or leads an answer goes
      // back over that answer at most.
      EXPECT_LE(s.fed() - fed, s.cache().position() - seen + 8) << name << ", turn " << turn;
      near(s.logits(), afresh(chat, s.turns()));
      written += std::ssize(answer(s));
    }
    EXPECT_GT(written, 0);
    if (std::string(name) == "chatml" || std::string(name) == "none") {
      EXPECT_EQ(s.again(), 0) << name;
    }
  }
}

TEST_F(ChatSessions, TurnsTakenBackLeaveNothing) {
  const ChatTemplate chat("chatml", *tokenizer_);
  KvCacheOptions sink{.kind = "sink", .budget_tokens = 40}, h2o = sink, part = sink;
  h2o.kind = "h2o";
  part.budget_tokens = 0;
  part.budget_percent = 60;
  KvCacheOptions rolled = sink;
  rolled.positions = KvPositions::rolled;
  for (const KvCacheOptions& cache : {KvCacheOptions{}, sink, h2o, part, rolled}) {
    ChatSession straight = session(chat, cache), detour = session(chat, cache);
    for (ChatSession* s : {&straight, &detour}) {
      s->ask("the first of all turns");
      answer(*s);
    }
    detour.ask("something else that is taken back");
    answer(detour);
    detour.take_back();
    std::string said;
    for (ChatSession* s : {&straight, &detour}) {
      s->ask("the second");
      said = answer(*s);
    }
    const auto first = detour.turns();
    detour.ask_again();
    EXPECT_EQ(answer(detour), said) << describe(cache);
    EXPECT_EQ(detour.turns().size(), first.size());
    for (ChatSession* s : {&straight, &detour}) s->ask("the third");
    near(straight.logits(), detour.logits());
    EXPECT_EQ(straight.cache().kept(1, 1), detour.cache().kept(1, 1)) << describe(cache);
    EXPECT_EQ(straight.plan().ids, detour.plan().ids);
  }
}

// A cache that evicts has no copy from before the last turn but one: the conversation is seen
// again.
TEST_F(ChatSessions, TwoTurnsTakenBackFromACacheThatEvicts) {
  const ChatTemplate chat("chatml", *tokenizer_);
  ChatSession s = session(chat, {.kind = "local", .budget_tokens = 500});
  for (const char* text : {"one", "two", "three"}) {
    s.ask(text);
    answer(s);
  }
  s.take_back();
  s.take_back();
  EXPECT_EQ(s.turns().size(), 2u);
  s.ask("four");
  EXPECT_GT(s.again(), 0);
  near(s.logits(), afresh(chat, s.turns()));
}

TEST_F(ChatSessions, AnotherSystemOrCacheSeesTheConversationAgain) {
  const ChatTemplate chat("llama3", *tokenizer_);
  ChatSession s = session(chat);
  s.ask("one");
  answer(s);
  s.set_system("Other.");
  s.ask("two");
  near(s.logits(), afresh(chat, s.turns()));
  answer(s);
  s.set_cache({.kind = "h2o", .budget_tokens = 1000});
  s.ask("three");
  near(s.logits(), afresh(chat, s.turns()));
  EXPECT_EQ(s.turns().size(), 6u);
  s.begin_anew();
  EXPECT_EQ(s.turns().size(), 1u);
  s.ask("four");
  near(s.logits(), afresh(chat, s.turns()));
}

TEST_F(ChatSessions, ATurnThatDoesNotFitChangesNothing) {
  const ChatTemplate chat("chatml", *tokenizer_);
  ChatSession s = session(chat);
  s.ask("one");
  answer(s);
  const auto before = s.plan().ids;
  try {
    s.ask(std::string(3000, 'x'));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("2048"), std::string::npos);
    EXPECT_NE(error.hint().find("/new"), std::string::npos);
  }
  EXPECT_EQ(s.turns().size(), 2u);
  EXPECT_EQ(s.plan().ids, before);
  EXPECT_FALSE(s.ask(std::string(900, 'x'), [n = 0]() mutable { return n++ == 0; }));  // stopped
  EXPECT_EQ(s.turns().size(), 2u);
  s.ask("two");
  near(s.logits(), afresh(chat, s.turns()));
  EXPECT_THROW(s.ask("<s>begins with BOS"), Error);
}

}  // namespace
}  // namespace mullion
