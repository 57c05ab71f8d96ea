// The keys are those of llama.cpp; tokenizer_gguf.cc reads them.
#include <algorithm>
#include <array>
#include <set>

#include "data/tokenizer_kinds.h"
#include "data/tokenizer_writer.h"
#include "tensor/check.h"

namespace mullion {
namespace {

std::string key(const char* name) { return std::string("tokenizer.ggml.") + name; }

// SentencePiece scores that merge as the ranks of parts.merges do: a token's is minus the rank of
// the first merge that makes it. Where that loses something, there are none.
std::vector<float> scores_of_merges(TokenizerParts parts) {
  std::unordered_map<std::string, size_t> first;
  for (size_t rank = 0; rank < parts.merges.size(); ++rank) {
    std::string joined = parts.merges[rank];
    joined.erase(joined.find(' '), 1);
    first.emplace(joined, rank);
  }
  const auto last = static_cast<float>(parts.merges.size());
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    const auto found = first.find(parts.tokens[id]);
    parts.scores[id] = found == first.end() ? -last : -static_cast<float>(found->second);
  }
  const std::vector<std::string> again = merges_of_scores(parts);
  const std::set<std::string> a(again.begin(), again.end());
  const std::set<std::string> b(parts.merges.begin(), parts.merges.end());
  CHECK_AS(Fault::bad_file, a == b && parts.merges.size() < (size_t{1} << 24), "tokenizer: its ",
           b.size(),
           " merges are not those of a SentencePiece vocabulary, which "
           "has ",
           a.size(), "; GGUF has no words for them");
  return parts.scores;
}

void add_sentencepiece(GgufPairs& pairs, TokenizerParts& parts, std::vector<std::string>& notes) {
  if (!parts.merges.empty()) parts.scores = scores_of_merges(parts);
  pairs.boolean(key("add_space_prefix"), parts.add_space_prefix);
  const auto note = [&](bool differs, const char* text) {
    if (differs) notes.push_back(std::string("tokenizer: llama.cpp ") + text);
  };
  note(parts.add_space_prefix && !parts.prefix_after_control,
       "puts a space before the first word after a control token, the model's own does not");
  note(parts.add_space_prefix && parts.metaspace,
       "puts a space before a text that begins with one, the model's own does not");
  note(!parts.normalized.empty(),
       "finds added tokens anywhere in a text, the model's own some of them after a space alone");
  note(parts.remove_extra_spaces, "keeps runs of spaces, the model's own collapses them");
  note(parts.split_words, "may merge over the start of a word, the model's own does not");
}

// The token that ends a turn, where it is another one than the end of a text.
std::optional<int32_t> end_of_turn(const TokenizerParts& parts) {
  static constexpr std::array kTexts = {"<|eot_id|>", "<|im_end|>", "<end_of_turn>"};
  for (const int32_t id : parts.more_eos)
    if (id != parts.eos && std::find(kTexts.begin(), kTexts.end(),
                                     parts.tokens[static_cast<size_t>(id)]) != kTexts.end())
      return id;
  return std::nullopt;
}

}  // namespace

std::vector<std::string> add_tokenizer(GgufPairs& pairs, const Tokenizer& tokenizer, int64_t rows) {
  TokenizerParts parts = tokenizer.parts();
  std::vector<std::string> notes;
  CHECK_AS(Fault::bad_file, tokenizer.vocab_size() <= rows, "tokenizer: ", tokenizer.vocab_size(),
           " tokens, the model has ", rows, " rows");
  pairs.text(key("model"), parts.model);
  if (parts.model == "llama")
    add_sentencepiece(pairs, parts, notes);
  else
    pairs.text(key("pre"), parts.pre);
  for (auto id = static_cast<int64_t>(parts.tokens.size()); id < rows; ++id) {
    parts.tokens.push_back(concat("[PAD", id, "]"));
    parts.scores.push_back(-1000);
    parts.types.push_back(TokenType::unused);
  }
  pairs.texts(key("tokens"), parts.tokens);
  if (parts.model == "llama") pairs.f32s(key("scores"), parts.scores);
  std::vector<int32_t> types;
  for (const TokenType type : parts.types) types.push_back(static_cast<int32_t>(type));
  pairs.i32s(key("token_type"), types);
  if (parts.model == "gpt2") pairs.texts(key("merges"), parts.merges);
  for (const auto& [name, id] : {std::pair{"bos_token_id", parts.bos},
                                 {"eos_token_id", parts.eos},
                                 {"unknown_token_id", parts.unk},
                                 {"padding_token_id", parts.pad},
                                 {"eot_token_id", end_of_turn(parts)}})
    if (id) pairs.u32(key(name), static_cast<uint64_t>(*id));
  pairs.boolean(key("add_bos_token"), *parts.add_bos);
  pairs.boolean(key("add_eos_token"), parts.add_eos);
  if (!parts.chat_template.empty()) pairs.text("tokenizer.chat_template", parts.chat_template);
  return notes;
}

}  // namespace mullion
