// The keys are those of llama.cpp; tokenizer_gguf.cc reads them.
#include <algorithm>
#include <initializer_list>
#include <set>
#include <string_view>

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
  note(!parts.eos && parts.tokens.size() > 2,
       "ends texts at token 2, the model's own has no such token");
  note(!parts.normalized.empty(),
       "finds added tokens anywhere in a text, the model's own some of them after a space alone");
  note(parts.remove_extra_spaces, "keeps runs of spaces, the model's own collapses them");
  note(parts.split_words, "may merge over the start of a word, the model's own does not");
}

// The token among those that end a text, but the one that is written as such, with one of the
// texts.
std::optional<int32_t> end_with_text(const TokenizerParts& parts,
                                     std::initializer_list<std::string_view> texts) {
  for (const int32_t id : parts.more_eos)
    if (id != parts.eos &&
        std::find(texts.begin(), texts.end(), parts.tokens[static_cast<size_t>(id)]) != texts.end())
      return id;
  return std::nullopt;
}

// Which tokens end a text by the file's keys and texts and do not by the model's own tokenizer, and
// the other way round.
void note_other_ends(const TokenizerParts& parts,
                     std::initializer_list<std::optional<int32_t>> keys,
                     std::vector<std::string>& notes) {
  std::set<int32_t> own(parts.more_eos.begin(), parts.more_eos.end()), of_file;
  if (parts.eos) own.insert(*parts.eos);
  for (const auto& id : keys)
    if (id) of_file.insert(*id);
  for (const int32_t id : ends_by_text(parts)) of_file.insert(id);
  const auto tell = [&](const std::set<int32_t>& some, const std::set<int32_t>& others,
                        const char* what) {
    for (const int32_t id : some)
      if (!others.contains(id))
        notes.push_back(
            concat("tokenizer: ", id, " '", parts.tokens[static_cast<size_t>(id)], "' ", what));
  };
  tell(own, of_file, "ends a text, for which a GGUF file has no key left");
  tell(of_file, own, "will end a text by its name alone, which it does not in the model's own");
}

}  // namespace

std::vector<std::string> add_tokenizer(GgufPairs& pairs, const Tokenizer& tokenizer, int64_t rows) {
  TokenizerParts parts = tokenizer.parts();
  std::vector<std::string> notes;
  CHECK_AS(Fault::bad_file, tokenizer.vocab_size() <= rows, "tokenizer: ", tokenizer.vocab_size(),
           " tokens, the model has ", rows, " rows");
  pairs.text(key("model"), parts.model);
  if (parts.model == "llama") {
    add_sentencepiece(pairs, parts, notes);
  } else {
    pairs.text(key("pre"), parts.pre);
    if (const bool whole = ignores_merges(parts.pre); whole != parts.ignore_merges)
      notes.push_back(concat("tokenizer: in a GGUF file, whose rule is ", parts.pre,
                             "'s, a word that is a token is ", whole ? "" : "not ",
                             "taken whole whatever the merges say (ignore_merges), by the model's "
                             "own it is",
                             whole ? " not" : ""));
  }
  add_padding(parts, rows);
  pairs.texts(key("tokens"), parts.tokens);
  if (parts.model == "llama") pairs.f32s(key("scores"), parts.scores);
  std::vector<int32_t> types;
  for (const TokenType type : parts.types) types.push_back(static_cast<int32_t>(type));
  pairs.i32s(key("token_type"), types);
  if (parts.model == "gpt2") pairs.texts(key("merges"), parts.merges);
  const auto turn = end_with_text(parts, {"<|eot_id|>", "<|im_end|>", "<end_of_turn>"}),
             message = end_with_text(parts, {"<|eom_id|>"});
  note_other_ends(parts, {parts.eos, turn, message}, notes);
  for (const auto& [name, id] : {std::pair{"bos_token_id", parts.bos},
                                 {"eos_token_id", parts.eos},
                                 {"unknown_token_id", parts.unk},
                                 {"padding_token_id", parts.pad},
                                 {"eot_token_id", turn},
                                 {"eom_token_id", message}})
    if (id) pairs.u32(key(name), static_cast<uint64_t>(*id));
  pairs.boolean(key("add_bos_token"), *parts.add_bos);
  pairs.boolean(key("add_eos_token"), parts.add_eos);
  if (!parts.chat_template.empty()) pairs.text("tokenizer.chat_template", parts.chat_template);
  return notes;
}

}  // namespace mullion
