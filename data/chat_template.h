// Conversations as the one text that a model was trained on. No template is run: the known ones are
// written here, and a tokenizer's own is recognised by its special texts, as llama.cpp does.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/conversation.h"
#include "data/own_template.h"
#include "data/tokenizer.h"

namespace mullion {

// none llama2 llama3 chatml zephyr vicuna alpaca, and auto.
const std::vector<std::string>& chat_format_names();
const char* name_of(ChatFormat format);

struct ByteSpan {
  size_t begin, end;
};

struct RenderedChat {
  std::string text;
  std::vector<ByteSpan> answers;  // content and end token of each assistant turn
};

class ChatTemplate {
 public:
  // `name` auto: what the tokenizer's own template is; Error(usage) where it has none or one that
  // is not known, and where the tokenizer lacks a token that the format needs.
  ChatTemplate(const std::string& name, const Tokenizer& tokenizer);

  ChatFormat format() const { return format_; }
  // The token with which an answer ends, where the text is one.
  std::optional<int32_t> end_id() const { return end_id_; }
  // What stands between prompt() and the first word of an answer: models write it themselves.
  std::string answer_lead() const;
  // How the rendered text becomes ids: special texts in it become their tokens.
  EncodeOptions encode_options() const;
  // "chatml, by the tokenizer's own template; system by default: ..."
  std::string describe() const;

  // Error(bad_file) names row and field where a content begins with the BOS text.
  RenderedChat render(const Conversation& conversation) const;
  // The same with what comes before an answer, for a conversation that ends with the user's turn.
  // The text of the first turns begins that of all, up to spaces around an answer that a template
  // trims. Error(bad_file) as above, with "the conversation" for the row.
  std::string prompt(const std::vector<Turn>& turns) const;

 private:
  void refuse_bos(const std::vector<Turn>& turns, const std::string& where) const;
  std::string header(const char* role) const;
  void write_turns(const std::vector<Turn>& turns, RenderedChat& out) const;
  void write_headed_turns(const std::vector<Turn>& turns, RenderedChat& out) const;

  ChatFormat format_ = ChatFormat::none;
  bool by_own_ = false;  // by the tokenizer's own template
  OwnTemplate own_;      // or what the format is by itself
  std::string bos_, end_;
  std::optional<int32_t> end_id_;
  bool add_bos_ = false;
};

// The byte of `text` at which each id begins, and text.size() last. `ids` are encode(text) with
// `bos` as given there. Error where they do not spell the text.
std::vector<size_t> token_places(const Tokenizer& tokenizer, std::string_view text,
                                 const std::vector<int32_t>& ids, bool bos);

}  // namespace mullion
