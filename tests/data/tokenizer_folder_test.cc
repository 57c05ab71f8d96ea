// load_tokenizer on Hugging Face folders: which file is read, what the files beside it add, and
// that one vocabulary gives one hash whatever it was read from.
#include <gtest/gtest.h>

#include <algorithm>

#include "data/tokenizer.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tests/data/tokenizer_samples.h"

namespace mullion {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

class TokenizerFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    folder_ = std::filesystem::temp_directory_path() /
              ("mullion_tokenizer_" + name + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void put(const std::string& name, const std::string& text) const {
    write_whole_file(folder_ / name, text);
  }
  std::unique_ptr<Tokenizer> load() const { return load_tokenizer(folder_); }

  std::filesystem::path folder_;
};

// The tokenizer.json that is made from a SentencePiece vocabulary: all halves of a piece are
// merges, in the order of its score.
json rewritten(const test::SpmSample& sample) {
  json vocab = json::object(), merges = json::array(), added = json::array();
  for (size_t id = 0; id < sample.pieces.size(); ++id) vocab[sample.pieces[id].text] = id;
  for (const test::Piece& piece : sample.pieces) {  // the sample's scores descend
    for (size_t cut = 1; piece.type == 1 && cut < piece.text.size(); ++cut) {
      std::string left = piece.text.substr(0, cut), right = piece.text.substr(cut);
      bool character = (static_cast<uint8_t>(right[0]) & 0xC0) != 0x80;
      if (character && vocab.contains(left) && vocab.contains(right)) {
        merges.push_back({left, right});
      }
    }
  }
  for (int id : {0, 1, 2}) {
    added.push_back({{"id", id}, {"content", sample.pieces[id].text}, {"special", true}});
  }
  return {{"added_tokens", added},
          {"normalizer",
           {{"type", "Sequence"},
            {"normalizers",
             {{{"type", "Prepend"}, {"prepend", "▁"}},
              {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}}}}}},
          {"pre_tokenizer", nullptr},
          {"model",
           {{"type", "BPE"},
            {"unk_token", "<unk>"},
            {"byte_fallback", true},
            {"vocab", vocab},
            {"merges", merges}}}};
}

TEST_F(TokenizerFolder, FilesBesideTheTokenizerSayTheRest) {
  put("tokenizer.json", test::json_sample().dump());
  EXPECT_FALSE(load()->bos());
  put("config.json", R"({"bos_token_id": 5, "eos_token_id": 6})");
  EXPECT_EQ(load()->bos(), 5);
  EXPECT_EQ(load()->eos_ids(), Ids{6});
  put("tokenizer_config.json",
      R"({"bos_token": {"content": "<|end|>"}, "eos_token": "<|end|>", "add_bos_token": true,
          "chat_template": "<|im_start|>"})");
  put("generation_config.json", R"({"eos_token_id": [264, 7, 7]})");
  auto tokenizer = load();
  EXPECT_EQ(tokenizer->bos(), 264);
  EXPECT_EQ(tokenizer->eos(), 264);
  EXPECT_EQ(tokenizer->eos_ids(), (Ids{264, 7}));
  EXPECT_TRUE(tokenizer->add_bos());
  EXPECT_EQ(tokenizer->parts().chat_template, "<|im_start|>");
  put("chat_template.jinja", "[INST]");
  EXPECT_EQ(load()->parts().chat_template, "[INST]");
}

TEST_F(TokenizerFolder, OfNamedChatTemplatesDefaultIsTaken) {
  put("tokenizer.json", test::json_sample().dump());
  const auto config = [&](const std::string& list) {
    put("tokenizer_config.json", "{\"chat_template\": [" + list + "]}");
    return load()->parts();
  };
  const std::string tools = R"({"name": "tool_use", "template": "t"})",
                    usual = R"({"name": "default", "template": "d"})";
  EXPECT_EQ(config(tools + "," + usual).chat_template, "d");
  ASSERT_EQ(config(tools + "," + usual).notes.size(), 1u);
  EXPECT_NE(config(tools + "," + usual).notes[0].find("default is taken, not tool_use"),
            std::string::npos);
  EXPECT_TRUE(config(usual).notes.empty());
  EXPECT_EQ(config(tools).chat_template, "");
  EXPECT_EQ(config(tools).notes.size(), 1u);
  EXPECT_THROW(config("3"), Error);
}

TEST_F(TokenizerFolder, TheSpaceInFrontByTheConfig) {
  put("tokenizer.model", test::spm_sample().bytes());
  EXPECT_TRUE(load()->parts().add_space_prefix);
  put("tokenizer_config.json", R"({"add_prefix_space": false})");
  EXPECT_FALSE(load()->parts().add_space_prefix);
  put("tokenizer.json", rewritten(test::spm_sample()).dump());
  EXPECT_TRUE(load()->parts().add_space_prefix);
  const auto told = [&] {
    const std::vector<std::string> notes = load()->parts().notes;
    return std::any_of(notes.begin(), notes.end(), [](const std::string& note) {
      return note.find("add_prefix_space is false") != std::string::npos;
    });
  };
  EXPECT_TRUE(told());
  put("tokenizer.json", test::json_sample().dump());
  EXPECT_FALSE(told());
  put("tokenizer_config.json", R"({"add_prefix_space": true})");
  EXPECT_THROW(load(), Error);
}

TEST_F(TokenizerFolder, RulesForGeneratingAreTold) {
  put("tokenizer.json", test::json_sample().dump());
  put("generation_config.json",
      R"({"repetition_penalty": 1.0, "temperature": 0.6, "suppress_tokens": [], "min_length": 0})");
  EXPECT_TRUE(load()->parts().notes.empty());
  put("generation_config.json", R"({"repetition_penalty": 1.9, "suppress_tokens": [5]})");
  ASSERT_EQ(load()->parts().notes.size(), 1u);
  EXPECT_NE(load()->parts().notes[0].find("not followed: repetition_penalty 1.9, suppress_tokens"),
            std::string::npos)
      << load()->parts().notes[0];
}

TEST_F(TokenizerFolder, WhatATokenizerJsonHasBesideIsToldAndAnotherVersionRefused) {
  json root = test::json_sample();
  root["speed"] = 3;
  put("tokenizer.json", root.dump());
  ASSERT_EQ(load()->parts().notes.size(), 1u);
  EXPECT_NE(load()->parts().notes[0].find("tokenizer.json: speed is not known"), std::string::npos);
  root["version"] = "2.0";
  put("tokenizer.json", root.dump());
  EXPECT_THROW(load(), Error);
}

TEST_F(TokenizerFolder, WrongIdsAndFilesAreRefused) {
  EXPECT_THROW(load(), Error);
  put("tokenizer.json", test::json_sample().dump());
  put("generation_config.json", R"({"eos_token_id": 265})");
  EXPECT_THROW(load(), Error);
  put("generation_config.json", R"({"eos_token_id": -1})");
  EXPECT_THROW(load(), Error);
  put("generation_config.json", R"({"eos_token_id": 1, "eos_token_id": 2})");
  EXPECT_THROW(load(), Error);
}

TEST_F(TokenizerFolder, TheRewrittenVocabularyGivesTheSameTokens) {
  test::SpmSample sample = test::spm_sample();
  put("tokenizer.model", sample.bytes());
  auto model = load();
  put("tokenizer.json", rewritten(sample).dump());
  auto both = load();
  EXPECT_EQ(both->hash(), model->hash());
  std::filesystem::remove(folder_ / "tokenizer.model");
  auto alone = load();
  std::mt19937 random(4);
  for (int round = 0; round < 200; ++round) {
    std::string text = test::random_bytes(random, random() % 60);
    ASSERT_EQ(alone->encode(text), model->encode(text));
    ASSERT_EQ(alone->decode(alone->encode(text)), test::with_spaces(text));
  }
}

TEST_F(TokenizerFolder, AnUnreadableTokenizerJsonNeverYieldsToTheModelFile) {
  json root = test::json_sample();
  root["normalizer"] = {{"type", "NFC"}};
  put("tokenizer.model", test::spm_sample().bytes());
  for (const std::string& text : {root.dump(), root.dump().substr(0, 500), std::string("{}")}) {
    put("tokenizer.json", text);
    try {
      load();
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::bad_file);
      for (const char* word : {"tokenizer.json", "tokenizer.model beside it is not taken"})
        EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  }
}

// One order for every special token: the model file's own yields to tokenizer_config.json, this
// comes before special_tokens_map.json, and what is overruled is told.
TEST_F(TokenizerFolder, OneOrderOfAuthority) {
  put("tokenizer.model", test::spm_sample().bytes());
  EXPECT_EQ(load()->eos(), 2);
  EXPECT_EQ(load()->parts().origins.at("eos"), "tokenizer.model trainer_spec");
  const int32_t size = load()->vocab_size();
  put("added_tokens.json",
      json({{"<|im_start|>", size}, {"<|im_end|>", size + 1}, {"<plain>", size + 2}}).dump());
  EXPECT_EQ(load()->type(size), TokenType::user_defined);  // no file gives it a role
  put("special_tokens_map.json",
      R"({"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]})");
  auto tokenizer = load();
  EXPECT_EQ(tokenizer->eos(), size + 1);
  EXPECT_EQ(tokenizer->parts().origins.at("eos"), "special_tokens_map.json eos_token");
  EXPECT_EQ(tokenizer->type(size), TokenType::control);
  EXPECT_EQ(tokenizer->type(size + 2), TokenType::user_defined);
  EXPECT_EQ(tokenizer->encode("<|im_end|>", {.parse_specials = true}), Ids{size + 1});
  EXPECT_TRUE(tokenizer->parts().notes.empty());
  put("tokenizer_config.json", R"({"eos_token": "<s>", "pad_token": "[PAD]"})");
  tokenizer = load();
  EXPECT_EQ(tokenizer->eos(), 1);
  EXPECT_EQ(tokenizer->parts().origins.at("eos"), "tokenizer_config.json eos_token");
  ASSERT_EQ(tokenizer->parts().notes.size(), 2u);  // the pad token, the other EOS
  EXPECT_NE(tokenizer->parts().notes[0].find("[PAD]"), std::string::npos);
  EXPECT_NE(tokenizer->parts().notes[1].find("overruled by tokenizer_config.json"),
            std::string::npos);
}

TEST_F(TokenizerFolder, TokensAddedToAModelFile) {
  put("tokenizer.model", test::spm_sample().bytes());
  int32_t size = load()->vocab_size();
  json added = {{std::to_string(size), {{"content", "<pad>"}, {"special", true}}},
                {"1", {{"content", "<s>"}}}};
  put("tokenizer_config.json",
      json({{"added_tokens_decoder", added}, {"pad_token", "<pad>"}}).dump());
  EXPECT_EQ(load()->vocab_size(), size + 1);
  EXPECT_EQ(load()->pad(), size);
  EXPECT_EQ(load()->type(size), TokenType::control);
  added[std::to_string(size + 7)] = {{"content", "<gap>"}};
  put("tokenizer_config.json", json({{"added_tokens_decoder", added}}).dump());
  EXPECT_THROW(load(), Error);
}

TEST_F(TokenizerFolder, TokensAddedToATokenizerJson) {
  put("tokenizer.json", test::json_sample().dump());
  const int32_t size = load()->vocab_size();
  const json added = {{std::to_string(size), {{"content", "<pad>"}, {"special", true}}}};
  put("tokenizer_config.json",
      json({{"added_tokens_decoder", added}, {"pad_token", "<pad>"}}).dump());
  EXPECT_EQ(load()->vocab_size(), size + 1);
  EXPECT_EQ(load()->pad(), size);
  EXPECT_EQ(load()->type(size), TokenType::control);
}

// What such a class makes of its own, where it sets tokenizer.json aside, and where its token
// lacks.
TEST_F(TokenizerFolder, ClassesThatMakeTheirOwnEndsAreTold) {
  json root = test::json_sample();
  put("tokenizer.json", root.dump());
  put("tokenizer_config.json",
      R"({"tokenizer_class": "GPTNeoXTokenizerFast", "bos_token": "<|end|>",
          "eos_token": "<|end|>", "add_bos_token": true})");
  EXPECT_TRUE(load()->add_bos());
  EXPECT_TRUE(load()->parts().notes.empty()) << load()->parts().notes[0];
  put("tokenizer_config.json",
      R"({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|end|>",
          "add_bos_token": true})");
  EXPECT_FALSE(load()->add_bos());
  ASSERT_EQ(load()->parts().notes.size(), 1u);
  EXPECT_NE(load()->parts().notes[0].find("for a PreTrainedTokenizerFast;"), std::string::npos)
      << load()->parts().notes[0];
  std::filesystem::remove(folder_ / "tokenizer_config.json");
  put("config.json", R"({"model_type": "llama"})");
  EXPECT_FALSE(load()->add_bos());
  ASSERT_EQ(load()->parts().notes.size(), 1u);
  EXPECT_NE(load()->parts().notes[0].find("'<s>', the default of a LlamaTokenizerFast, is not in"),
            std::string::npos)
      << load()->parts().notes[0];
}

}  // namespace
}  // namespace mullion
