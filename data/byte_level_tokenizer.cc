// Byte-level BPE (Radford et al. 2019; GPT-2, Llama 3, SmolLM2): a text is cut into words by a
// pattern, each word starts as single bytes, and the pair of lowest merge rank is joined until no
// merge applies. Words that come again within one text are copied.
#include <algorithm>
#include <unordered_map>

#include "data/bpe_merge.h"
#include "data/byte_level.h"
#include "data/pre_tokenizer.h"
#include "data/tokenizer_kinds.h"
#include "data/utf8.h"
#include "tensor/check.h"

namespace mullion {
namespace {

class ByteLevelTokenizer : public Tokenizer {
 public:
  explicit ByteLevelTokenizer(TokenizerParts given)
      : Tokenizer(std::move(given)), pre_tokenizer_(parts().pre), merges_(*this) {
    std::vector<std::string> bytes;
    bytes.reserve(parts().tokens.size());
    for (int32_t id = 0; id < vocab_size(); ++id) {
      std::optional<std::string> decoded;
      if (type(id) == TokenType::normal) decoded = byte_level_decode(token_text(id));
      bytes.push_back(decoded ? *decoded : token_text(id));
    }
    set_token_bytes(std::move(bytes));
    for (int b = 0; b < 256; ++b) {
      char c = static_cast<char>(b);
      byte_ids_[b] = find(byte_level_encode({&c, 1})).value_or(-1);
    }
    if (parts().ignore_merges) add_words();
  }

 protected:
  void encode_text(std::string_view text, bool, bool, std::vector<int32_t>& out) const override {
    std::vector<std::string_view> words;
    pre_tokenizer_.split(text, words);
    std::unordered_map<std::string_view, std::pair<size_t, size_t>> seen;  // word -> ids in out
    BpeMerger merger;
    for (std::string_view word : words) {
      auto [entry, fresh] = seen.try_emplace(word, out.size(), 0);
      auto& [begin, count] = entry->second;
      if (fresh) {
        encode_word(word, merger, out);
        count = out.size() - begin;
      } else {
        for (size_t i = begin; i < begin + count; ++i) out.push_back(out[i]);
      }
    }
  }

 private:
  void add_words() {
    for (int32_t id = 0; id < vocab_size(); ++id) {
      if (type(id) == TokenType::normal) words_.emplace(token_bytes(id), id);
    }
  }

  void encode_word(std::string_view word, BpeMerger& merger, std::vector<int32_t>& out) const {
    if (auto whole = words_.find(word); whole != words_.end()) {
      out.push_back(whole->second);
      return;
    }
    std::vector<BpeSymbol>& symbols = merger.symbols();
    symbols.clear();
    const bool valid = utf8_character(word) > 0;  // words are all valid or all not
    for (char c : word) put_byte(c, valid, symbols);
    merger.run([&](const BpeSymbol& left, const BpeSymbol& right) {
      return merges_.find(left.id, right.id);
    });
    for (const BpeSymbol& symbol : symbols) {
      if (symbol.length > 0) out.push_back(symbol.id);
    }
  }

  // SmolLM2 lacks the bytes that no UTF-8 text has: in broken text they become U+FFFD, as where it
  // is read elsewhere. Others become <unk>; where there is none, tokenizers leaves them out without
  // a word, here the text is refused.
  void put_byte(char c, bool valid, std::vector<BpeSymbol>& symbols) const {
    auto put = [&](int32_t id) {
      symbols.push_back({id, static_cast<uint32_t>(symbols.size()), 1, -1, -1});
    };
    const auto byte = static_cast<uint8_t>(c);
    const int32_t replacement[] = {byte_ids_[0xEF], byte_ids_[0xBF], byte_ids_[0xBD]};
    if (byte_ids_[byte] >= 0) {
      put(byte_ids_[byte]);
    } else if (!valid && std::find(std::begin(replacement), std::end(replacement), -1) ==
                             std::end(replacement)) {
      for (int32_t id : replacement) put(id);
    } else {
      CHECK(unk(), "encode: byte ", int{byte}, " of the text is not in the vocabulary");
      if (!parts().fuse_unknown || symbols.empty() || symbols.back().id != *unk()) put(*unk());
    }
  }

  PreTokenizer pre_tokenizer_;
  int32_t byte_ids_[256];
  MergeTable merges_;
  std::unordered_map<std::string_view, int32_t> words_;  // filled where merges may be ignored
};

}  // namespace

std::unique_ptr<Tokenizer> make_byte_level_tokenizer(TokenizerParts parts) {
  return std::make_unique<ByteLevelTokenizer>(std::move(parts));
}

}  // namespace mullion
