// Searches in the text; what stands between special texts is Jinja or written as it is.
#include "data/own_template.h"

#include <algorithm>
#include <cctype>
#include <string_view>

namespace mullion {
namespace {

bool has(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

std::string_view without(std::string_view text, std::string_view in_front) {
  text.remove_prefix(std::min(text.find_first_not_of(in_front), text.size()));
  return text;
}

// A line break in Jinja's text: the character, or \n in quotes. Its size; 0: none.
size_t line_break(std::string_view text) {
  return text.starts_with("\n") ? 1 : text.starts_with("\\n") ? 2 : 0;
}

// 'It\'s' in a template: It's. None: an escape that is not known here.
std::optional<std::string> unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    const char c = ++i < text.size() ? text[i] : '\0';
    if (c == 'n' || c == 't')
      out += c == 'n' ? '\n' : '\t';
    else if (c == '\'' || c == '"' || c == '\\')
      out += c;
    else
      return std::nullopt;
  }
  return out;
}

// Where a quoted text ends whose first character is at 0.
size_t end_of_quoted(std::string_view text, char quote) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\')
      ++i;
    else if (text[i] == quote)
      return i;
  }
  return text.npos;
}

// Whether a place after this is between {{ and }} or {% and %}.
bool in_expression(std::string_view before) {
  const auto last = [&](std::string_view a, std::string_view b) {
    const size_t one = before.rfind(a), other = before.rfind(b);
    if (one == before.npos || other == before.npos) return std::min(one, other);
    return std::max(one, other);
  };
  const size_t open = last("{{", "{%"), close = last("}}", "%}");
  return open != before.npos && (close == before.npos || close < open);
}

// The system text that a ChatML template writes by itself, between <|im_start|>system, a line break
// and <|im_end|>: a whole quoted text, or written as it is. `other`: there is one that is neither
// this nor the content of a message.
std::string literal_system(std::string_view jinja, bool& other) {
  constexpr std::string_view kHead = "<|im_start|>system", kTail = "<|im_end|>";
  std::string found;
  for (size_t at = jinja.find(kHead); at != jinja.npos; at = jinja.find(kHead, at + 1)) {
    const std::string_view before = jinja.substr(0, at), rest = jinja.substr(at + kHead.size());
    const size_t size = line_break(rest), end = rest.find(kTail);
    if (size == 0) continue;
    if (end == rest.npos) break;
    const std::string_view text = rest.substr(size, end - size);
    if (text.empty() || has(text, "content")) continue;
    const char last = before.empty() ? '\n' : before.back();
    const bool quoted = last == '\'' || last == '"';
    std::optional<std::string> literal;
    if (!in_expression(before)) {
      if (!has(text, "{")) literal = text;
    } else if (quoted ? end_of_quoted(text, last) == text.npos
                      : text.find_first_of("'\"") == text.npos) {
      literal = unescaped(text);  // of a text that begins here or before
    }
    if (literal && found.empty()) found = *literal;
    other = other || !literal;
  }
  return found;
}

// The text of {% set system_message = 'text' %}, the first that is not empty.
std::string set_system(std::string_view jinja) {
  for (size_t at = jinja.find("set "); at != jinja.npos; at = jinja.find("set ", at + 1)) {
    const std::string_view from = without(jinja.substr(at + 4), " ");
    size_t length = 0;
    while (length < from.size() && (std::isalnum(static_cast<unsigned char>(from[length])) ||
                                    from[length] == '_' || from[length] == '.'))
      ++length;
    if (!has(from.substr(0, length), "system")) continue;
    std::string_view value = without(from.substr(length), " ");
    if (!value.starts_with("=")) continue;
    value = without(value.substr(1), " ");
    if (!value.starts_with("'") && !value.starts_with("\"")) continue;
    const char quote = value[0];
    value.remove_prefix(1);
    const size_t end = end_of_quoted(value, quote);
    if (end == value.npos || end == 0) continue;
    if (!without(value.substr(end + 1), " -").starts_with("%}")) continue;  // a part of a text
    return unescaped(value.substr(0, end)).value_or(std::string(value.substr(0, end)));
  }
  return "";
}

enum class LineEnds { yes, no, unknown };

// Whether a line break follows the end of a turn: in its own text, in the next one that a + or ~
// joins to it, in the next expression, or written as it is and not taken away by {%- or {{-.
LineEnds line_after(std::string_view rest) {
  rest = without(rest, "'\" +~");
  if (line_break(rest) > 0) return LineEnds::yes;
  if (rest.starts_with("{%")) return LineEnds::no;
  const bool cuts = rest.starts_with("-}}");
  if (!cuts && !rest.starts_with("}}")) return LineEnds::unknown;
  rest.remove_prefix(cuts ? 3 : 2);
  const std::string_view next = without(rest, " \n");
  const bool cut = cuts || next.starts_with("{%-") || next.starts_with("{{-");
  if (!cut && line_break(without(rest, " ")) > 0) return LineEnds::yes;
  if (next.starts_with("{{")) {
    const std::string_view text = without(next.substr(2), "- '\"");
    return line_break(text) > 0 ? LineEnds::yes : LineEnds::unknown;
  }
  return next.starts_with("{%") || next.empty() ? LineEnds::no : LineEnds::unknown;
}
LineEnds line_ends_of(std::string_view jinja) {
  LineEnds all = LineEnds::unknown;
  for (const std::string_view end : {"<|im_end|>", "eos_token"})
    for (size_t at = jinja.find(end); at != jinja.npos; at = jinja.find(end, at + 1)) {
      const LineEnds one = line_after(jinja.substr(at + end.size()));
      if (one == LineEnds::yes) return one;
      if (one == LineEnds::no) all = one;
    }
  return all;
}

// Calls f with what stands before each mention of BOS: its name, or its text.
template <typename F>
bool any_bos(std::string_view jinja, const std::string& bos, const F& f) {
  for (const std::string_view name : {std::string_view("bos_token"), std::string_view(bos)}) {
    if (name.empty() || name == "<|im_start|>") continue;  // which begins turns
    for (size_t at = jinja.find(name); at != jinja.npos; at = jinja.find(name, at + 1))
      if (f(jinja.substr(0, at), jinja.substr(at + name.size()))) return true;
  }
  return false;
}

// It is written where an expression begins with it, or a content that is set.
bool writes_bos(std::string_view jinja, const std::string& bos) {
  return any_bos(jinja, bos, [](std::string_view before, std::string_view after) {
    const size_t last = before.find_last_not_of("'\" -(");
    if (last == before.npos) return true;
    before = before.substr(0, last + 1);
    const std::string_view next = without(after, "'\" ");
    return before.ends_with("{{") || before.ends_with("}}") ||
           (before.ends_with("=") && (next.starts_with("+") || next.starts_with("~")));
  });
}

bool bos_before_inst(std::string_view jinja, const std::string& bos) {
  return any_bos(jinja, bos, [](std::string_view, std::string_view after) {
    return without(after, "'\" +~{}-").starts_with("[INST]");
  });
}

// Llama 2's answers have a space before the EOS token.
bool space_before_eos(std::string_view jinja) {
  for (size_t at = jinja.find("eos_token"); at != jinja.npos;
       at = jinja.find("eos_token", at + 1)) {
    const size_t last = jinja.substr(0, at).find_last_not_of(" +~");
    if (last == jinja.npos) continue;
    const std::string_view before = jinja.substr(0, last + 1);
    if (before.ends_with("' '") || before.ends_with("\" \"")) return true;
  }
  return false;
}

// Whether turns begin with the role of the message, whatever it is.
bool writes_roles(std::string_view jinja) {
  constexpr std::string_view kStart = "<|im_start|>";
  for (size_t at = jinja.find(kStart); at != jinja.npos; at = jinja.find(kStart, at + 1)) {
    const std::string_view rest = without(jinja.substr(at + kStart.size()), "'\" +~{}-");
    if (has(rest.substr(0, rest.find_first_of("}\\\n")), "role")) return true;
  }
  return false;
}

std::optional<ChatFormat> format_of(std::string_view jinja, const std::string& bos) {
  if (has(jinja, "<|im_sep|>")) return std::nullopt;  // Phi's, between role and content
  if (has(jinja, "<|im_start|>")) return ChatFormat::chatml;
  if (has(jinja, "[INST]")) {
    if (has(jinja, "<<SYS>>") && bos_before_inst(jinja, bos) && space_before_eos(jinja))
      return ChatFormat::llama2;
    return std::nullopt;
  }
  if (has(jinja, "<|start_header_id|>")) return ChatFormat::llama3;
  if (has(jinja, "USER: ") && has(jinja, "ASSISTANT:") && has(jinja, "A chat between a curious"))
    return ChatFormat::vicuna;
  if (has(jinja, "### Instruction:") && has(jinja, "### Response:") &&
      has(jinja, "Below is an instruction that describes a task"))
    return ChatFormat::alpaca;
  return std::nullopt;
}

}  // namespace

std::optional<OwnTemplate> read_own_template(const std::string& jinja, const std::string& bos) {
  const std::optional<ChatFormat> format = format_of(jinja, bos);
  if (!format) return std::nullopt;
  OwnTemplate own{.format = *format};
  const auto not_written = [&](bool there, const std::string& what) {
    if (there) own.not_written.push_back(what);
  };
  own.bos = writes_bos(jinja, bos);
  own.trims = has(jinja, "trim") || has(jinja, "strip(");
  if (own.format == ChatFormat::chatml) {
    bool other = false;
    own.system = literal_system(jinja, other);
    own.ends_with_eos = !has(jinja, "<|im_end|>") && has(jinja, "eos_token");
    const LineEnds lines = line_ends_of(jinja);
    own.line_ends = lines != LineEnds::no;
    not_written(own.trims, "what its template trims of the contents");
    not_written(other, "a system text that its template makes where none is given");
    not_written(lines == LineEnds::unknown,
                "anything but a line break between turns, if its template has it");
    not_written(has(jinja, "system") && !has(jinja, "<|im_start|>system") && !writes_roles(jinja),
                "a system turn as its template has it, which is no turn of its own");
  }
  const std::string set = set_system(jinja);
  const bool known = std::string_view(kVicuna) == set || std::string_view(kAlpaca) == set;
  not_written(!set.empty() && set != own.system && !known,
              "the system text that its template sets where none is given: " + set);
  not_written(own.format == ChatFormat::llama3 && has(jinja, "Cutting Knowledge Date"),
              "the dates that its template puts into the system turn");
  return own;
}

}  // namespace mullion
