// What both kinds of tokenizer share: the checks of their parts, special tokens in a text, the
// policy for BOS and EOS, the content hash.
#include "data/tokenizer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <unordered_map>

#include "data/prefix_set.h"
#include "data/tokenizer_kinds.h"
#include "tensor/check.h"
#include "tensor/io/sha256.h"

namespace mullion {
namespace {

constexpr size_t kMaxTokens = 1'000'000, kMaxMerges = 4'000'000, kMaxTokenBytes = 4096;
constexpr size_t kMaxSpecials = 100'000, kMaxSpecialBytes = 512;

TokenType guess_type(const TokenizerParts& parts, int32_t id) {
  const std::string& text = parts.tokens[id];
  if (id == parts.unk || text == "<unk>") return TokenType::unknown;
  if (id == parts.bos || id == parts.eos || text == "<s>" || text == "</s>") {
    return TokenType::control;
  }
  bool byte = parts.model == "llama" && text.size() == 6 && text.starts_with("<0x");
  return byte ? TokenType::byte : TokenType::normal;
}

void check_id(std::optional<int32_t> id, size_t vocab, const char* name) {
  CHECK_AS(Fault::bad_file, !id || (*id >= 0 && static_cast<size_t>(*id) < vocab),
           "tokenizer: ", name, " id ", *id, " is outside the vocabulary of ", vocab);
}

// Fills in what may be left empty and refuses parts that contradict each other.
void complete(TokenizerParts& parts) {
  const size_t n = parts.tokens.size();
  CHECK_AS(Fault::bad_file, parts.model == "llama" || parts.model == "gpt2",
           "tokenizer: unknown model '", parts.model, "' (known: llama, gpt2)");
  CHECK_AS(Fault::bad_file, n > 0 && n <= kMaxTokens, "tokenizer: ", n, " tokens, not 1 to ",
           kMaxTokens);
  CHECK_AS(Fault::bad_file, parts.scores.empty() || parts.scores.size() == n,
           "tokenizer: ", parts.scores.size(), " scores for ", n, " tokens");
  CHECK_AS(Fault::bad_file, parts.types.empty() || parts.types.size() == n,
           "tokenizer: ", parts.types.size(), " token types for ", n, " tokens");
  CHECK_AS(Fault::bad_file, parts.merges.size() <= kMaxMerges, "tokenizer: ", parts.merges.size(),
           " merges, at most ", kMaxMerges);
  check_id(parts.bos, n, "bos");
  check_id(parts.eos, n, "eos");
  check_id(parts.unk, n, "unknown");
  check_id(parts.pad, n, "padding");
  for (int32_t id : parts.more_eos) check_id(id, n, "eos");
  for (int32_t id : parts.normalized) check_id(id, n, "normalized");
  parts.scores.resize(n, 0.0f);
  if (parts.types.empty()) {
    for (size_t id = 0; id < n; ++id) {
      parts.types.push_back(guess_type(parts, static_cast<int32_t>(id)));
    }
  }
  size_t specials = 0;
  for (size_t id = 0; id < n; ++id) {
    auto type = static_cast<int32_t>(parts.types[id]);
    size_t length = parts.tokens[id].size();
    CHECK_AS(Fault::bad_file, length > 0 && length <= kMaxTokenBytes, "tokenizer: token ", id,
             " has ", length, " bytes, not 1 to ", kMaxTokenBytes);
    CHECK_AS(Fault::bad_file, std::isfinite(parts.scores[id]), "tokenizer: the score of token ", id,
             " is ", parts.scores[id]);
    CHECK_AS(Fault::bad_file, type >= 1 && type <= 6, "tokenizer: token ", id, " has type ", type,
             ", not 1 to 6");
    bool special =
        parts.types[id] == TokenType::control || parts.types[id] == TokenType::user_defined;
    specials += special;
    CHECK_AS(Fault::bad_file, !special || (length <= kMaxSpecialBytes && specials <= kMaxSpecials),
             "tokenizer: special token ", id, " of ", length, " bytes: at most ", kMaxSpecials,
             " of at most ", kMaxSpecialBytes, " bytes");
  }
  bool default_bos = parts.model == "llama" || parts.pre == "llama-bpe";
  parts.add_bos = parts.add_bos.value_or(default_bos) && parts.bos;
  parts.add_eos = parts.add_eos && parts.eos;
}

// Numbers are hashed as little-endian bytes and texts after their length, so that no two
// different vocabularies give the same message.
class PartsHash {
 public:
  void add(uint64_t number) {
    uint8_t bytes[8];
    for (int i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(number >> (8 * i));
    hash_.update(bytes, 8);
  }
  void add(const std::string& text) {
    add(text.size());
    hash_.update(text);
  }
  std::string hex() { return hash_.hex(); }

 private:
  Sha256 hash_;
};

std::string content_hash(const TokenizerParts& parts) {
  PartsHash hash;
  bool llama = parts.model == "llama";
  hash.add(parts.model);
  hash.add(llama ? "" : parts.pre);
  hash.add(llama ? parts.add_space_prefix + 2u * parts.remove_extra_spaces + 4u * parts.metaspace +
                       8u * parts.split_words
                 : parts.ignore_merges);
  // Rules that a vocabulary never comes to are left out: its files may differ in them.
  const auto has = [&](TokenType type) {
    return std::find(parts.types.begin(), parts.types.end(), type) != parts.types.end();
  };
  if (llama && !parts.fuse_unknown && !has(TokenType::byte)) hash.add("an <unk> a character");
  if (llama && parts.prefix_after_added && parts.add_space_prefix && has(TokenType::user_defined))
    hash.add("a space after added tokens");
  for (int32_t id : parts.normalized) hash.add("normalized " + std::to_string(id));
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    hash.add(parts.tokens[id]);
    hash.add(static_cast<uint64_t>(parts.types[id]));
    if (llama) hash.add(std::bit_cast<uint32_t>(parts.scores[id] + 0.0f));  // -0 is 0
  }
  for (const std::string& merge : parts.merges) hash.add(merge);
  return hash.hex();
}

}  // namespace

struct Tokenizer::Index {
  std::unordered_map<std::string_view, int32_t> ids;  // views into parts_.tokens
  PrefixSet user_defined, specials;                   // specials: user defined and control
};

Tokenizer::Tokenizer(TokenizerParts parts)
    : parts_(std::move(parts)), index_(std::make_unique<Index>()) {
  if (parts_.eos) eos_ids_.push_back(*parts_.eos);
  for (int32_t id : parts_.more_eos) {
    if (!is_eos(id)) eos_ids_.push_back(id);
  }
  index_->ids.reserve(parts_.tokens.size());
  for (size_t id = 0; id < parts_.tokens.size(); ++id) {
    auto [found, fresh] = index_->ids.emplace(parts_.tokens[id], static_cast<int32_t>(id));
    CHECK_AS(Fault::bad_file, fresh, "tokenizer: tokens ", found->second, " and ", id,
             " are both '", parts_.tokens[id], "'");
  }
  hash_ = content_hash(parts_);
}

Tokenizer::~Tokenizer() = default;

void Tokenizer::set_token_bytes(std::vector<std::string> bytes) {
  bytes_ = std::move(bytes);
  std::vector<std::pair<std::string, int32_t>> user, all;
  const std::vector<int32_t>& later = parts_.normalized;
  for (int32_t id = 0; id < vocab_size(); ++id) {
    if (std::find(later.begin(), later.end(), id) != later.end()) continue;
    if (type(id) == TokenType::user_defined) user.emplace_back(bytes_[id], id);
    if (type(id) == TokenType::control || type(id) == TokenType::unknown)
      all.emplace_back(parts_.tokens[id], id);
  }
  all.insert(all.end(), user.begin(), user.end());
  index_->user_defined = PrefixSet(std::move(user));
  index_->specials = PrefixSet(std::move(all));
}

std::vector<int32_t> Tokenizer::encode(std::string_view bytes, const EncodeOptions& options) const {
  CHECK(bytes.size() <= INT32_MAX, "encode: a text of ", bytes.size(), " bytes, at most 2^31-1");
  CHECK(!options.bos || parts_.bos, "encode: BOS asked for, but the tokenizer has none");
  CHECK(!options.eos || parts_.eos, "encode: EOS asked for, but the tokenizer has none");
  std::vector<int32_t> out;
  if (options.bos) out.push_back(*parts_.bos);
  const PrefixSet& specials = options.parse_specials ? index_->specials : index_->user_defined;
  bool prefix = options.space_prefix;
  size_t begin = 0, at = specials.empty() ? bytes.size() : 0;
  auto flush = [&] {
    if (at > begin)
      encode_text(bytes.substr(begin, at - begin), prefix, options.parse_specials, out);
  };
  while (at < bytes.size()) {
    auto [id, length] = specials.longest(bytes.substr(at));
    if (length == 0) {
      ++at;
      continue;
    }
    flush();
    out.push_back(id);
    prefix = type(id) == TokenType::user_defined ? parts_.prefix_after_added
                                                 : parts_.prefix_after_control;
    begin = at += length;
  }
  flush();
  if (options.eos) out.push_back(*parts_.eos);
  return out;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, const DecodeOptions& options) const {
  // At the start of the text alone, as the makers do: "x</s> the" keeps the space that encode put.
  bool strip = options.strip_space_prefix && parts_.model == "llama" &&
               (parts_.add_space_prefix || parts_.remove_extra_spaces);
  std::string out;
  for (int32_t id : ids) {
    std::string_view piece = token_bytes(id);
    const bool unknown = type(id) == TokenType::unknown && parts_.unknown_text.empty();
    if (type(id) == TokenType::control || unknown) {
      if (options.specials) out += piece, strip = false;
      continue;
    }
    if (strip && piece.starts_with(' ')) piece.remove_prefix(1);
    out += piece;
    strip = strip && parts_.remove_extra_spaces && out.empty();  // as sentencepiece: piece by piece
  }
  return out;
}

bool Tokenizer::is_eos(int32_t id) const {
  return std::find(eos_ids_.begin(), eos_ids_.end(), id) != eos_ids_.end();
}

const std::string& Tokenizer::token_text(int32_t id) const {
  CHECK(id >= 0 && id < vocab_size(), "token id ", id, " is outside the vocabulary of ",
        vocab_size());
  return parts_.tokens[id];
}

const std::string& Tokenizer::token_bytes(int32_t id) const {
  CHECK(id >= 0 && id < vocab_size(), "token id ", id, " is outside the vocabulary of ",
        vocab_size());
  return bytes_[id];
}

TokenType Tokenizer::type(int32_t id) const {
  CHECK(id >= 0 && id < vocab_size(), "token id ", id, " is outside the vocabulary of ",
        vocab_size());
  return parts_.types[id];
}

std::optional<int32_t> Tokenizer::find(std::string_view text) const {
  auto found = index_->ids.find(text);
  if (found == index_->ids.end()) return std::nullopt;
  return found->second;
}

MergeTable::MergeTable(const Tokenizer& tokenizer) {
  const std::vector<std::string>& merges = tokenizer.parts().merges;
  merges_.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    std::string_view line = merges[rank];
    size_t space = line.find(' ');
    CHECK_AS(Fault::bad_file, space != line.npos && line.find(' ', space + 1) == line.npos,
             "tokenizer: merge ", rank, " '", line, "' is not two tokens with a space between");
    std::string_view left = line.substr(0, space), right = line.substr(space + 1);
    std::string joined = std::string(left) + std::string(right);
    auto a = tokenizer.find(left), b = tokenizer.find(right), c = tokenizer.find(joined);
    CHECK_AS(Fault::bad_file, a && b && c, "tokenizer: merge ", rank, " '", line, "': '",
             !a   ? left
             : !b ? right
                  : joined,
             "' is not in the vocabulary");
    // A pair that is listed twice keeps its first rank.
    merges_.try_emplace(key(*a, *b), BpeMerge{static_cast<uint32_t>(rank), *c});
  }
}

void add_padding(TokenizerParts& parts, int64_t rows) {
  for (auto id = static_cast<int64_t>(parts.tokens.size()); id < rows; ++id) {
    parts.tokens.push_back(concat("[PAD", id, "]"));
    parts.scores.push_back(-1000);
    parts.types.push_back(TokenType::unused);
  }
}

std::unique_ptr<Tokenizer> make_tokenizer(TokenizerParts parts) {
  complete(parts);
  return parts.model == "llama" ? make_sentencepiece_tokenizer(std::move(parts))
                                : make_byte_level_tokenizer(std::move(parts));
}

}  // namespace mullion
