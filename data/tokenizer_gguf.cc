// The tokenizer that a GGUF file carries in its tokenizer.ggml.* keys, with the defaults that
// llama.cpp applies where a key is absent.
#include <algorithm>
#include <array>

#include "data/tokenizer_kinds.h"
#include "tensor/check.h"
#include "tensor/io/gguf.h"

namespace mullion {
namespace {

std::string known_pre(const GgufFile& file) {
  std::string pre = file.find_string("tokenizer.ggml.pre").value_or("default");
  if (pre == "llama3" || pre == "llama-v3") return "llama-bpe";
  return pre;
}

std::optional<int32_t> find_id(const GgufFile& file, const char* key) {
  auto id = file.find_uint(std::string("tokenizer.ggml.") + key, INT32_MAX);
  if (!id) return std::nullopt;
  return static_cast<int32_t>(*id);
}

// Those of SentencePiece, where a file names none.
void take_sentencepiece_ids(TokenizerParts& parts) {
  const auto take = [&](std::optional<int32_t>& id, int32_t usual, const char* what) {
    if (id || static_cast<size_t>(usual) >= parts.tokens.size()) return;
    id = usual;
    parts.origins[what] = "the usual id of a SentencePiece vocabulary";
  };
  take(parts.unk, 0, "unk");
  take(parts.bos, 1, "bos");
  take(parts.eos, 2, "eos");
}

}  // namespace

bool ignores_merges(const std::string& pre) { return pre == "llama-bpe"; }

std::vector<int32_t> ends_by_text(const TokenizerParts& parts) {
  static constexpr std::array kEnds = {"<|eot_id|>", "<|im_end|>", "<|end_of_text|>",
                                       "<|endoftext|>"};
  std::vector<int32_t> ids;
  for (size_t id = 0; id < parts.types.size() && id < parts.tokens.size(); ++id) {
    const bool end = std::find(kEnds.begin(), kEnds.end(), parts.tokens[id]) != kEnds.end();
    if (end && parts.types[id] == TokenType::control) ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

TokenizerParts tokenizer_parts(const GgufFile& file) {
  auto key = [](const char* name) { return std::string("tokenizer.ggml.") + name; };
  TokenizerParts parts;
  parts.model = file.get_string(key("model"));
  parts.tokens = file.get_strings(key("tokens"));
  if (file.has(key("scores"))) parts.scores = file.get_floats(key("scores"));
  if (file.has(key("token_type"))) {
    for (int32_t type : file.get_ints(key("token_type"))) {
      parts.types.push_back(static_cast<TokenType>(type));
    }
  }
  if (parts.model == "gpt2") {
    parts.pre = known_pre(file);
    parts.ignore_merges = ignores_merges(parts.pre);
    parts.merges = file.get_strings(key("merges"));
    parts.scores.clear();
  }
  parts.bos = find_id(file, "bos_token_id");
  parts.eos = find_id(file, "eos_token_id");
  parts.unk = find_id(file, "unknown_token_id");
  parts.pad = find_id(file, "padding_token_id");
  if (parts.model == "llama") take_sentencepiece_ids(parts);
  for (const auto& [what, name] : {std::pair{"bos", "bos_token_id"},
                                   {"eos", "eos_token_id"},
                                   {"unk", "unknown_token_id"},
                                   {"pad", "padding_token_id"},
                                   {"add_bos", "add_bos_token"},
                                   {"add_eos", "add_eos_token"}}) {
    if (file.has(key(name))) parts.origins[what] = key(name);
  }
  for (const char* name : {"eot_token_id", "eom_token_id"}) {
    if (auto id = find_id(file, name)) parts.more_eos.push_back(*id);
  }
  for (const int32_t id : ends_by_text(parts)) parts.more_eos.push_back(id);
  if (!parts.more_eos.empty()) {
    parts.origins["more_eos"] =
        "tokenizer.ggml.eot_token_id, eom_token_id and texts like <|im_end|>";
  }
  parts.add_bos = file.find_bool(key("add_bos_token"));
  CHECK_AS(Fault::bad_file, !parts.add_bos.value_or(false) || parts.bos, file.name(), ": ",
           key("add_bos_token"), " is true, and there is no ", key("bos_token_id"));
  parts.add_eos = file.find_bool(key("add_eos_token")).value_or(false);
  parts.add_space_prefix = file.find_bool(key("add_space_prefix")).value_or(true);
  parts.prefix_after_added = true;  // as llama.cpp: after every token that is not text
  parts.chat_template = file.find_string("tokenizer.chat_template").value_or("");
  return parts;
}

}  // namespace mullion
