// One writer a template; a tokenizer's own is matched by its special texts, or refused.
#include "data/chat_template.h"

#include <algorithm>

#include "data/utf8.h"
#include "tensor/check.h"
#include "tensor/words.h"

namespace mullion {
namespace {

// What Jinja's trim takes away: all that Python holds for space.
constexpr std::string_view kSpaces[] = {" ",
                                        "\n",
                                        "\t",
                                        "\r",
                                        "\v",
                                        "\f",
                                        "\x1c",
                                        "\x1d",
                                        "\x1e",
                                        "\x1f",
                                        "\xc2\x85",
                                        "\xc2\xa0",
                                        "\xe1\x9a\x80",
                                        "\xe2\x80\x80",
                                        "\xe2\x80\x81",
                                        "\xe2\x80\x82",
                                        "\xe2\x80\x83",
                                        "\xe2\x80\x84",
                                        "\xe2\x80\x85",
                                        "\xe2\x80\x86",
                                        "\xe2\x80\x87",
                                        "\xe2\x80\x88",
                                        "\xe2\x80\x89",
                                        "\xe2\x80\x8a",
                                        "\xe2\x80\xa8",
                                        "\xe2\x80\xa9",
                                        "\xe2\x80\xaf",
                                        "\xe2\x81\x9f",
                                        "\xe3\x80\x80"};

std::string trimmed(std::string_view text) {
  const auto cut = [&](auto fits, auto take) {
    for (bool again = true; again;) {
      again = false;
      for (const std::string_view space : kSpaces)
        if (fits(space)) {
          take(space.size());
          again = true;
        }
    }
  };
  cut([&](std::string_view s) { return text.starts_with(s); },
      [&](size_t n) { text.remove_prefix(n); });
  cut([&](std::string_view s) { return text.ends_with(s); },
      [&](size_t n) { text.remove_suffix(n); });
  return std::string(text);
}

std::string joined(const Turn& turn, const char* between) {
  return turn.input.empty() ? turn.content : turn.content + between + turn.input;
}

// Every turn begins with a header that names its role.
bool has_headers(ChatFormat format) {
  return format == ChatFormat::chatml || format == ChatFormat::llama3 ||
         format == ChatFormat::zephyr;
}

// The special text, which must be one token.
std::string needed(const Tokenizer& tokenizer, const char* format, const std::string& text) {
  CHECK_AS(Fault::usage, tokenizer.find(text).has_value(), "--template ", format,
           ": the tokenizer has no token ", text);
  return text;
}

// A BOS that the model's configuration alone names is none to the tokenizer's template.
bool names_bos(const TokenizerParts& parts) {
  const auto origin = parts.origins.find("bos");
  return parts.bos &&
         (origin == parts.origins.end() || !(origin->second.starts_with("config.json") ||
                                             origin->second.starts_with("generation_config.json")));
}

}  // namespace

const std::vector<std::string>& chat_format_names() {
  static const std::vector<std::string> names = {"auto",   "llama2", "llama3", "chatml",
                                                 "zephyr", "vicuna", "alpaca", "none"};
  return names;
}

const char* name_of(ChatFormat format) {
  constexpr const char* kNames[] = {"none",   "llama2", "llama3", "chatml",
                                    "zephyr", "vicuna", "alpaca"};
  return kNames[static_cast<size_t>(format)];
}

ChatTemplate::ChatTemplate(const std::string& name, const Tokenizer& tokenizer) {
  const std::string& jinja = tokenizer.parts().chat_template;
  if (tokenizer.bos()) bos_ = tokenizer.token_text(*tokenizer.bos());
  const std::optional<OwnTemplate> own = read_own_template(jinja, bos_);
  if (name == "auto") {
    if (!own)
      throw Error(concat("--template auto: the tokenizer has ",
                         jinja.empty() ? "no chat template"
                                       : "a chat template that is none of the known ones"),
                  Fault::usage,
                  "give --template: llama2, llama3, chatml, zephyr, vicuna or alpaca; none learns "
                  "the plain texts");
    format_ = own->format;
    by_own_ = true;
  } else {
    for (const ChatFormat f : {ChatFormat::llama2, ChatFormat::llama3, ChatFormat::chatml,
                               ChatFormat::zephyr, ChatFormat::vicuna, ChatFormat::alpaca})
      if (name == name_of(f)) format_ = f;
  }
  // Where the tokenizer's own is of this format it says more, also when the format was named.
  own_ = own && own->format == format_
             ? *own
             : OwnTemplate{.format = format_, .bos = format_ == ChatFormat::llama3, .trims = true};
  const char* const label = name_of(format_);
  if (format_ == ChatFormat::chatml && !own_.ends_with_eos) {
    needed(tokenizer, label, "<|im_start|>");
    end_ = needed(tokenizer, label, "<|im_end|>");
  } else if (format_ == ChatFormat::llama3) {
    needed(tokenizer, label, "<|start_header_id|>");
    needed(tokenizer, label, "<|end_header_id|>");
    end_ = needed(tokenizer, label, "<|eot_id|>");
  } else {
    CHECK_AS(Fault::usage, tokenizer.eos().has_value(), "--template ", label,
             ": the tokenizer has no end-of-text token, with which an answer could end");
    end_ = tokenizer.token_text(*tokenizer.eos());
  }
  if (format_ == ChatFormat::vicuna) own_.system = kVicuna;
  end_id_ = tokenizer.find(end_);
  const bool chatml = format_ == ChatFormat::chatml, llama2 = format_ == ChatFormat::llama2;
  const bool by_name = chatml || format_ == ChatFormat::zephyr;
  if (by_name && !names_bos(tokenizer.parts())) own_.bos = false;
  // These write BOS or leave it out by themselves.
  const bool of_format = has_headers(format_) || llama2;
  const bool writes_bos = llama2 || (of_format && own_.bos);
  CHECK_AS(Fault::usage, !writes_bos || !bos_.empty(), "--template ", label,
           ": the tokenizer has no BOS token");
  add_bos_ = !of_format && tokenizer.add_bos();
}

EncodeOptions ChatTemplate::encode_options() const {
  return {.bos = add_bos_, .parse_specials = true};
}

std::string ChatTemplate::describe() const {
  std::string text = name_of(format_);
  if (by_own_) text += ", by the tokenizer's own template";
  text += concat("; answers end with ", end_);
  if (!own_.system.empty()) text += "; system by default: " + own_.system;
  if (!own_.not_written.empty()) text += "; not written: " + joined(own_.not_written);
  return text;
}

std::string ChatTemplate::answer_lead() const {
  return format_ == ChatFormat::llama2 || format_ == ChatFormat::vicuna ? " " : "";
}

void ChatTemplate::refuse_bos(const std::vector<Turn>& turns, const std::string& where) const {
  for (const Turn& turn : turns)
    for (const std::string* part : {&turn.content, &turn.input})
      if (!bos_.empty() && part->starts_with(bos_))
        throw Error(concat(where, ": ", part == &turn.input ? "input" : turn.field,
                           ": begins with the BOS text ", bos_,
                           ", which the template or the tokenizer puts there"),
                    Fault::bad_file);
}

RenderedChat ChatTemplate::render(const Conversation& c) const {
  refuse_bos(c.turns, c.where);
  RenderedChat out;
  if (c.is_text) {
    out.text = c.turns[0].content;
    // A text that ends as the model's texts end does not end twice.
    if (!out.text.ends_with(end_)) out.text += end_;
    out.answers.push_back({0, out.text.size()});
    return out;
  }
  write_turns(c.turns, out);
  return out;
}

std::string ChatTemplate::prompt(const std::vector<Turn>& turns) const {
  refuse_bos(turns, "the conversation");
  RenderedChat out;
  write_turns(turns, out);
  const bool asks = !turns.empty() && turns.back().role != Role::assistant;
  return asks && has_headers(format_) ? out.text + header("assistant") : out.text;
}

std::string ChatTemplate::header(const char* role) const {
  switch (format_) {
    case ChatFormat::chatml:
      return concat("<|im_start|>", role, "\n");
    case ChatFormat::llama3:
      return concat("<|start_header_id|>", role, "<|end_header_id|>\n\n");
    default:
      return concat("<|", role, "|>\n");  // zephyr
  }
}

// A header before every turn, an end after it. The header of an answer is the prompt's.
void ChatTemplate::write_headed_turns(const std::vector<Turn>& turns, RenderedChat& out) const {
  const bool trims = own_.trims && format_ == ChatFormat::llama3;
  const std::string between = own_.line_ends && format_ != ChatFormat::llama3 ? "\n" : "";
  std::string& text = out.text;
  const auto write = [&](const char* role, const std::string& content) {
    text += header(role);
    const size_t begin = text.size();
    text += (trims ? trimmed(content) : content) + end_;
    const ByteSpan written{begin, text.size()};
    text += between;
    return written;
  };
  if (own_.bos) text += bos_;
  const bool has_system = !turns.empty() && turns[0].role == Role::system;
  if (!has_system && !own_.system.empty()) write("system", own_.system);
  for (const Turn& turn : turns) {
    if (turn.role == Role::assistant)
      out.answers.push_back(write("assistant", turn.content));
    else
      write(turn.role == Role::system ? "system" : "user", joined(turn, "\n\n"));
  }
}

// Where there are no headers, what stands before an answer is written with the user's turn.
void ChatTemplate::write_turns(const std::vector<Turn>& turns, RenderedChat& out) const {
  if (has_headers(format_)) return write_headed_turns(turns, out);
  const bool llama2 = format_ == ChatFormat::llama2, vicuna = format_ == ChatFormat::vicuna;
  const bool alpaca = format_ == ChatFormat::alpaca;
  const auto content = [&](const std::string& whole) {
    return llama2 && own_.trims ? trimmed(whole) : whole;
  };
  const bool has_system = !turns.empty() && turns[0].role == Role::system;
  const std::string system = has_system ? turns[0].content : own_.system;
  std::string& text = out.text;
  if (vicuna) text += system + " ";
  if (format_ == ChatFormat::none && has_system) text += system + "\n\n";
  bool first = true;  // no user's turn yet
  for (const Turn& turn : turns) {
    if (turn.role == Role::system) continue;
    if (turn.role == Role::assistant) {
      if (llama2 || vicuna) text += " ";
      const size_t begin = text.size();
      text += content(turn.content) + (llama2 ? " " : "") + end_;
      out.answers.push_back({begin, text.size()});
      if (alpaca && &turn != &turns.back()) text += "\n\n";
      continue;
    }
    std::string said = joined(turn, llama2 ? "\n" : "\n\n");
    if (llama2) {
      if (first && has_system) said = "<<SYS>>\n" + system + "\n<</SYS>>\n\n" + said;
      text += bos_ + "[INST] " + content(said) + " [/INST]";
    } else if (vicuna) {
      text += "USER: " + said + " ASSISTANT:";
    } else if (alpaca) {
      const char* const sentences = turn.input.empty() ? kAlpaca : kAlpacaWithInput;
      if (first) text += (has_system ? system : sentences) + "\n\n";
      text += "### Instruction:\n" + turn.content;
      if (!turn.input.empty()) text += "\n\n### Input:\n" + turn.input;
      text += "\n\n### Response:";
    } else {
      text += said;
    }
    first = false;
  }
}

std::vector<size_t> token_places(const Tokenizer& tokenizer, std::string_view text,
                                 const std::vector<int32_t>& ids, bool bos) {
  std::vector<size_t> places;
  places.reserve(ids.size() + 1);
  size_t at = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (bos && i == 0) {
      places.push_back(0);
      continue;
    }
    std::string_view bytes = tokenizer.token_bytes(ids[i]);
    const auto fits = [&](std::string_view part) { return text.substr(at).starts_with(part); };
    // A SentencePiece word begins with a space that the text may not have.
    if (!fits(bytes) && bytes.starts_with(' ') && fits(bytes.substr(1))) bytes.remove_prefix(1);
    // Spaces that the tokenizer takes away: around some added tokens, runs of them.
    while (!fits(bytes) && at < text.size() && text[at] == ' ') ++at;
    size_t size = bytes.size();
    if (!fits(bytes)) {
      CHECK(tokenizer.type(ids[i]) == TokenType::unknown && at < text.size(), "token ", ids[i],
            " '", bytes, "' is not the text at byte ", at);
      size = std::max<size_t>(1, utf8_character(text.substr(at)));
    }
    places.push_back(at);
    at += size;
  }
  places.push_back(text.size());
  return places;
}

}  // namespace mullion
