// Small tokenizers made in memory, whole or with one thing wrong, for the tests and the fuzzers'
// seeds: a SentencePiece model as a protocol buffer, a byte-level tokenizer.json as a JSON tree.
#pragma once
#include <bit>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "data/byte_level.h"

namespace mullion::test {

// Writes the fields of one protocol buffer message.
class WireWriter {
 public:
  std::string bytes;

  void varint(uint64_t value) {
    for (; value >= 128; value >>= 7) bytes += static_cast<char>(value | 128);
    bytes += static_cast<char>(value);
  }
  void number(int field, uint64_t value) {
    varint(static_cast<uint64_t>(field) << 3), varint(value);
  }
  void real(int field, float value) {
    varint(static_cast<uint64_t>(field) << 3 | 5);
    auto bits = std::bit_cast<uint32_t>(value);
    for (int i = 0; i < 4; ++i) bytes += static_cast<char>(bits >> (8 * i));
  }
  void text(int field, const std::string& value) {
    varint(static_cast<uint64_t>(field) << 3 | 2), varint(value.size());
    bytes += value;
  }
};

struct Piece {
  std::string text;
  float score = 0;
  uint64_t type = 1;
};

struct SpmSample {
  std::vector<Piece> pieces;
  uint64_t model_type = 2;
  std::string charsmap;
  bool space_prefix = true, remove_extra_spaces = false;

  std::string bytes() const {
    WireWriter model;
    for (const Piece& piece : pieces) {
      WireWriter message;
      message.text(1, piece.text);
      message.real(2, piece.score);
      message.number(3, piece.type);
      model.text(1, message.bytes);
    }
    WireWriter trainer, normalizer;
    trainer.number(3, model_type);
    trainer.number(43, UINT64_MAX);  // pad_id -1
    model.text(2, trainer.bytes);
    normalizer.text(1, "identity");
    normalizer.text(2, charsmap);
    normalizer.number(3, space_prefix);
    normalizer.number(4, remove_extra_spaces);
    model.text(3, normalizer.bytes);
    return model.bytes;
  }
};

// <unk>, <s>, </s>, 256 bytes, then "▁", letters, and a few pieces of two to five letters.
inline SpmSample spm_sample() {
  SpmSample sample;
  sample.pieces = {{"<unk>", 0, 2}, {"<s>", 0, 3}, {"</s>", 0, 3}};
  static const char* const kHex = "0123456789ABCDEF";
  for (int b = 0; b < 256; ++b) {
    sample.pieces.push_back({std::string("<0x") + kHex[b / 16] + kHex[b % 16] + ">", 0, 6});
  }
  float score = 0;
  for (const char* text : {"▁t", "he", "▁the", "an", "and", "▁and", "▁▁", "aa", "aaaa", "é▁x"}) {
    sample.pieces.push_back({text, score -= 1});
  }
  for (const char* text : {"▁", "t", "h", "e", "a", "n", "d", "é"}) {
    sample.pieces.push_back({text, score -= 1});
  }
  return sample;
}

// A tokenizer.json with all bytes, a few merges and one special token.
inline nlohmann::json json_sample() {
  nlohmann::json vocab = nlohmann::json::object(), merges = nlohmann::json::array();
  for (int b = 0; b < 256; ++b) {
    char c = static_cast<char>(b);
    vocab[byte_level_encode({&c, 1})] = b;
  }
  int id = 256;
  auto merge = [&](const std::string& left, const std::string& right) {
    vocab[left + right] = id++;
    merges.push_back(left + " " + right);
  };
  merge("h", "e"), merge("Ġ", "t"), merge("Ġt", "he"), merge("a", "a"), merge("aa", "aa");
  merge("1", "2"), merge("n", "g");
  vocab["ing"] = id++;  // a word that no merge forms
  return {{"version", "1.0"},
          {"added_tokens",
           {{{"id", id}, {"content", "<|end|>"}, {"special", true}, {"normalized", false}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

// What a text is to SentencePiece, whose symbol for a space is one in the text as well.
inline std::string with_spaces(std::string text) {
  for (size_t at; (at = text.find("\xE2\x96\x81")) != std::string::npos;) text.replace(at, 3, " ");
  return text;
}

// Bytes of all values, with stretches of text, broken characters and repeated letters.
inline std::string random_bytes(std::mt19937& random, size_t size) {
  static const std::vector<std::string> kScraps = {" the",
                                                   "and ",
                                                   "aaaa",
                                                   "\xE2\x96\x81",
                                                   "é",
                                                   "\xC3",
                                                   "\xED\xA0\x80",
                                                   "\xF0\x9F\x99\x82",
                                                   "12",
                                                   "<s>",
                                                   "</s>",
                                                   "<|end|>",
                                                   "<0x41>",
                                                   "  ",
                                                   "\r\n",
                                                   "\xEF\xBB\xBF",
                                                   std::string(1, '\0')};
  std::string out;
  while (out.size() < size) {
    if (random() % 2 == 0) {
      out += kScraps[random() % kScraps.size()];
    } else {
      out += static_cast<char>(random() % 256);
    }
  }
  return out;
}

}  // namespace mullion::test
