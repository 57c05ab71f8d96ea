// A tokenizer through a GGUF file and back is the same one.
#include <gtest/gtest.h>

#include <algorithm>

#include "data/tokenizer_kinds.h"
#include "data/tokenizer_writer.h"
#include "tensor/check.h"
#include "tests/apps/temporary_run.h"
#include "tests/data/tokenizer_samples.h"

namespace mullion {
namespace {

struct Written {
  std::unique_ptr<Tokenizer> tokenizer;
  std::vector<std::string> notes;
};

Written through_gguf(const Tokenizer& tokenizer, int64_t rows) {
  const test::TemporaryRun folder;
  const auto path = folder.path() / "t.gguf";
  GgufPairs pairs;
  Written written;
  pairs.text("general.architecture", "llama");
  written.notes = add_tokenizer(pairs, tokenizer, rows);
  GgufWriter(path, pairs, {}).commit();
  written.tokenizer = load_tokenizer(path);
  return written;
}

TEST(TokenizerGgufWriter, BothKindsComeBack) {
  TokenizerParts bpe = parse_tokenizer_json(test::json_sample().dump(), "sample");
  bpe.pre = "smollm";
  bpe.chat_template = "{{ '<|im_start|>' }}";
  for (TokenizerParts parts :
       {parse_sentencepiece_model(test::spm_sample().bytes(), "sample"), bpe}) {
    parts.remove_extra_spaces = false;  // of which GGUF knows nothing
    const auto tokenizer = make_tokenizer(std::move(parts));
    const Written written = through_gguf(*tokenizer, tokenizer->vocab_size());
    EXPECT_EQ(written.tokenizer->hash(), tokenizer->hash());
    EXPECT_EQ(written.tokenizer->bos(), tokenizer->bos());
    EXPECT_EQ(written.tokenizer->eos(), tokenizer->eos());
    EXPECT_EQ(written.tokenizer->unk(), tokenizer->unk());
    EXPECT_EQ(written.tokenizer->add_bos(), tokenizer->add_bos());
    EXPECT_EQ(written.tokenizer->parts().chat_template, tokenizer->parts().chat_template);
    EXPECT_TRUE(written.notes.empty());
    // Rows that no token has become unused tokens.
    const Written wide = through_gguf(*tokenizer, tokenizer->vocab_size() + 3);
    EXPECT_EQ(wide.tokenizer->vocab_size(), tokenizer->vocab_size() + 3);
    EXPECT_EQ(wide.tokenizer->type(tokenizer->vocab_size()), TokenType::unused);
    EXPECT_EQ(wide.tokenizer->encode(" the and 12"), tokenizer->encode(" the and 12"));
    EXPECT_THROW(through_gguf(*tokenizer, tokenizer->vocab_size() - 1), Error);
  }
}

TEST(TokenizerGgufWriter, WhatLlamaCppDoesDifferentlyIsSaid) {
  TokenizerParts parts = parse_sentencepiece_model(test::spm_sample().bytes(), "sample");
  parts.remove_extra_spaces = true;
  const auto tokenizer = make_tokenizer(std::move(parts));
  const Written written = through_gguf(*tokenizer, tokenizer->vocab_size());
  ASSERT_EQ(written.notes.size(), 1u);
  EXPECT_NE(written.notes[0].find("collapses"), std::string::npos);
}

TEST(TokenizerGgufWriter, OtherMergesAndEndsAreSaid) {
  TokenizerParts parts = parse_tokenizer_json(test::json_sample().dump(), "sample");
  parts.pre = "llama-bpe";
  for (const bool whole : {false, true}) {
    parts.ignore_merges = whole;
    const auto tokenizer = make_tokenizer(parts);
    const auto notes = through_gguf(*tokenizer, tokenizer->vocab_size()).notes;
    EXPECT_EQ(notes.size(), whole ? 0u : 1u);
    for (const std::string& note : notes)
      EXPECT_NE(note.find("ignore_merges"), std::string::npos) << note;
  }
  // <|eom_id|> has a key; a word that ends a text has none; <|im_end|> ends texts by its name.
  const auto special = [&](const std::string& text) {
    parts.tokens.push_back(text);
    parts.types.push_back(TokenType::control);
    return static_cast<int32_t>(parts.tokens.size() - 1);
  };
  const int32_t eom = special("<|eom_id|>"), im = special("<|im_end|>");
  parts.more_eos = {eom, 7};
  const auto tokenizer = make_tokenizer(parts);
  const Written written = through_gguf(*tokenizer, tokenizer->vocab_size());
  const std::vector<int32_t> ends = written.tokenizer->eos_ids();
  EXPECT_NE(std::find(ends.begin(), ends.end(), eom), ends.end());
  ASSERT_EQ(written.notes.size(), 2u);
  EXPECT_NE(written.notes[0].find("7 '"), std::string::npos) << written.notes[0];
  EXPECT_NE(written.notes[1].find(concat(im, " '<|im_end|>' will end a text")), std::string::npos)
      << written.notes[1];
}

// As llama.cpp: SentencePiece's own ids where no key has another.
TEST(TokenizerGgufWriter, AVocabularyWithoutIdsHasTheUsualOnes) {
  TokenizerParts parts = parse_sentencepiece_model(test::spm_sample().bytes(), "sample");
  parts.remove_extra_spaces = false;
  ASSERT_EQ(parts.bos, 1);
  const auto whole = make_tokenizer(parts);
  parts.bos = parts.eos = parts.unk = std::nullopt;
  const auto bare = make_tokenizer(parts);
  const Written written = through_gguf(*bare, bare->vocab_size());
  EXPECT_EQ(written.tokenizer->bos(), 1);
  EXPECT_EQ(written.tokenizer->eos(), 2);
  EXPECT_EQ(written.tokenizer->unk(), 0);
}

// A tokenizer.json has the merges of SentencePiece without its scores.
TEST(TokenizerGgufWriter, MergesBecomeScoresThatMergeTheSame) {
  TokenizerParts parts = parse_sentencepiece_model(test::spm_sample().bytes(), "sample");
  parts.remove_extra_spaces = false;
  parts.merges = merges_of_scores(parts);
  ASSERT_FALSE(parts.merges.empty());
  parts.scores.clear();
  const auto tokenizer = make_tokenizer(parts);
  const Written written = through_gguf(*tokenizer, tokenizer->vocab_size());
  EXPECT_TRUE(written.tokenizer->parts().merges.empty());
  for (const char* text : {"the and", " the the", "thethe and", "hand", "", " "})
    EXPECT_EQ(written.tokenizer->encode(text), tokenizer->encode(text)) << text;
  parts.merges.erase(parts.merges.begin());  // now a pair of tokens that does not merge
  const auto odd = make_tokenizer(parts);
  EXPECT_THROW(through_gguf(*odd, odd->vocab_size()), Error);
}

}  // namespace
}  // namespace mullion
