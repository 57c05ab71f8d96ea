// SentencePiece BPE (Kudo and Richardson 2018) as Llama 2 uses it: spaces become "▁", characters
// are joined by the score of the piece that they form, and what is left outside the vocabulary is
// written as byte tokens. Bytes that are not UTF-8 go to byte tokens at once, so that decoding
// gives them back; a "▁" in the text itself is a space, as in sentencepiece and tokenizers. Where
// no piece has a "▁" after another character (true of Llama 2), no merge can cross the start of a
// word; then words are encoded one by one and repeated words are copied.
#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "data/bpe_merge.h"
#include "data/prefix_set.h"
#include "data/tokenizer_kinds.h"
#include "data/utf8.h"
#include "tensor/check.h"

namespace mullion {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  size_t at = 0;
  for (size_t hit; (hit = text.find(from, at)) != std::string_view::npos; at = hit + from.size()) {
    out.append(text.substr(at, hit - at)).append(to);
  }
  return out.append(text.substr(at));
}

// "<0x0A>" -> 10.
uint8_t byte_of(const std::string& text, int32_t id) {
  auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  bool form = text.size() == 6 && text.starts_with("<0x") && text[5] == '>';
  CHECK_AS(Fault::bad_file, form && digit(text[3]) >= 0 && digit(text[4]) >= 0,
           "tokenizer: byte token ", id, " is '", text, "', not of the form <0x0A>");
  return static_cast<uint8_t>(16 * digit(text[3]) + digit(text[4]));
}

std::string without_extra_spaces(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c != ' ' || (!out.empty() && out.back() != ' ')) out += c;
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

class SentencePieceTokenizer : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(TokenizerParts given)
      : Tokenizer(std::move(given)), merges_(*this) {
    std::fill(std::begin(byte_ids_), std::end(byte_ids_), -1);
    std::vector<std::string> bytes;
    bytes.reserve(parts().tokens.size());
    for (int32_t id = 0; id < vocab_size(); ++id) bytes.push_back(add_piece(id));
    int known = 256 - static_cast<int>(std::count(std::begin(byte_ids_), std::end(byte_ids_), -1));
    CHECK_AS(Fault::bad_file, known == 0 || known == 256, "tokenizer: ", known,
             " byte tokens, not 0 or 256");
    CHECK_AS(Fault::bad_file, known == 256 || unk(), "tokenizer: neither byte tokens nor <unk>");
    rank_by_score();
    find_normalized();
    set_token_bytes(std::move(bytes));
  }

 protected:
  void encode_text(std::string_view text, bool prefix, bool specials,
                   std::vector<int32_t>& out) const override {
    std::string trimmed;
    if (parts().remove_extra_spaces) text = trimmed = without_extra_spaces(text);
    if (text.empty()) return;
    Run run{{}, {}, {}, out, specials ? normalized_ : normalized_user_};
    const bool space_there = parts().metaspace && (text[0] == ' ' || text.starts_with(kSpace));
    if (prefix && parts().add_space_prefix && !space_there) run.text = kSpace;
    for (size_t at = 0; at < text.size();) {
      size_t length = utf8_character(text.substr(at));
      if (length == 0) {
        encode_run(run);
        put_bytes(text.substr(at, 1), out);
      } else {
        run.text.append(text[at] == ' ' ? kSpace : text.substr(at, length));
      }
      at += std::max<size_t>(length, 1);
    }
    encode_run(run);
  }

 private:
  // A stretch of well-formed text, and the buffers that encoding it uses.
  struct Run {
    std::string text;
    BpeMerger merger;
    std::unordered_map<std::string_view, std::pair<size_t, size_t>> seen;  // word -> ids in out
    std::vector<int32_t>& out;
    const PrefixSet& added;  // normalized tokens to look for
  };

  // Enters one piece into the tables; returns the bytes that it decodes to.
  std::string add_piece(int32_t id) {
    const std::string& text = token_text(id);
    switch (type(id)) {
      case TokenType::normal: {
        pieces_.emplace(text, id);
        longest_ = std::max(longest_, text.size());
        bool inner_space = false;  // a "▁" that follows anything else
        for (size_t at = 1; (at = text.find(kSpace, at)) != std::string::npos; ++at) {
          bool after_space = at >= 3 && std::string_view(text).substr(at - 3, 3) == kSpace;
          inner_space |= !after_space;
        }
        words_apart_ &= !inner_space;
        return replace_all(text, kSpace, " ");
      }
      case TokenType::byte: {
        uint8_t byte = byte_of(text, id);
        byte_ids_[byte] = id;
        return std::string(1, static_cast<char>(byte));
      }
      case TokenType::control:
        return text;
      case TokenType::unknown:
        return parts().unknown_text.empty() ? text : parts().unknown_text;
      default:
        return replace_all(text, kSpace, " ");
    }
  }

  // Equal scores share a rank: the leftmost pair goes first.
  void rank_by_score() {
    const std::vector<float>& scores = parts().scores;
    std::vector<int32_t> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int a, int b) { return scores[a] > scores[b]; });
    ranks_.resize(order.size());
    uint32_t rank = 0;
    for (size_t i = 0; i < order.size(); ++i) {
      if (i > 0 && scores[order[i]] < scores[order[i - 1]]) ++rank;
      ranks_[order[i]] = rank;
    }
  }

  // What the normalizer makes of their texts is what stands in a run.
  void find_normalized() {
    std::vector<std::pair<std::string, int32_t>> user, all;
    for (int32_t id : parts().normalized) {
      const std::string text = (parts().add_space_prefix ? std::string(kSpace) : "") +
                               replace_all(token_text(id), " ", kSpace);
      all.emplace_back(text, id);
      if (type(id) == TokenType::user_defined) user.emplace_back(text, id);
    }
    normalized_ = PrefixSet(std::move(all));
    normalized_user_ = PrefixSet(std::move(user));
  }

  void encode_run(Run& run) const {
    const std::string_view text = run.text;
    size_t begin = 0, at = run.added.empty() ? text.size() : 0;
    while (at < text.size()) {
      const auto [id, length] = run.added.longest(text.substr(at));
      if (length == 0) {
        ++at;
        continue;
      }
      encode_words(text.substr(begin, at - begin), run);
      run.out.push_back(id);
      begin = at += length;
    }
    encode_words(text.substr(begin), run);
    run.text.clear();
    run.seen.clear();  // its keys point into the text
  }

  void encode_words(std::string_view text, Run& run) const {
    for (size_t at = 0; at < text.size();) {
      size_t end = text.size();
      if (words_apart_ || parts().split_words) {
        size_t letter = parts().split_words ? at + utf8_character(text.substr(at)) : at;
        while (!parts().split_words && text.substr(letter).starts_with(kSpace))
          letter += kSpace.size();
        end = std::min(text.find(kSpace, letter), text.size());
      }
      encode_word(text.substr(at, end - at), run);
      at = end;
    }
  }

  void encode_word(std::string_view word, Run& run) const {
    std::vector<int32_t>& out = run.out;
    auto [seen, fresh] = run.seen.try_emplace(word, out.size(), 0);
    if (!fresh) {
      auto [begin, count] = seen->second;
      for (size_t i = begin; i < begin + count; ++i) out.push_back(out[i]);
      return;
    }
    merge_word(word, run);
    seen->second.second = out.size() - seen->second.first;
  }

  void merge_word(std::string_view word, Run& run) const {
    auto id_of = [&](std::string_view text) {
      auto found = pieces_.find(text);
      return found == pieces_.end() ? -1 : found->second;
    };
    std::vector<BpeSymbol>& symbols = run.merger.symbols();
    symbols.clear();
    for (size_t at = 0; at < word.size();) {
      size_t length = utf8_character(word.substr(at));
      symbols.push_back({id_of(word.substr(at, length)), static_cast<uint32_t>(at),
                         static_cast<uint32_t>(length), -1, -1});
      at += length;
    }
    run.merger.run([&](const BpeSymbol& left, const BpeSymbol& right) {
      if (!merges_.empty()) return merges_.find(left.id, right.id);
      size_t length = left.length + right.length;
      if (length > longest_) return BpeMerge{};
      int32_t id = id_of(word.substr(left.begin, length));
      return id < 0 ? BpeMerge{} : BpeMerge{ranks_[id], id};
    });
    for (const BpeSymbol& symbol : symbols) {
      if (symbol.length == 0) continue;
      if (symbol.id >= 0) {
        run.out.push_back(symbol.id);
      } else {
        put_bytes(word.substr(symbol.begin, symbol.length), run.out);
      }
    }
  }

  // As byte tokens; without them as <unk>, one a character or for a stretch of them.
  void put_bytes(std::string_view bytes, std::vector<int32_t>& out) const {
    if (byte_ids_[0] >= 0) {
      for (char c : bytes) out.push_back(byte_ids_[static_cast<uint8_t>(c)]);
    } else if (!parts().fuse_unknown || out.empty() || out.back() != *unk()) {
      out.push_back(*unk());
    }
  }

  std::unordered_map<std::string_view, int32_t> pieces_;  // those that merges may form
  std::vector<uint32_t> ranks_;                           // by score, 0 is the highest
  PrefixSet normalized_, normalized_user_;                // parts().normalized
  MergeTable merges_;  // where a tokenizer.json gives them; they replace the ranks
  int32_t byte_ids_[256];
  size_t longest_ = 0;       // bytes of the longest piece
  bool words_apart_ = true;  // no piece has a "▁" after another character
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(TokenizerParts parts) {
  return std::make_unique<SentencePieceTokenizer>(std::move(parts));
}

}  // namespace mullion
