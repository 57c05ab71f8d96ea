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

// Calls f(before, after) with what stands around each mention of a text until it answers true.
template <typename F>
bool any_mention(std::string_view jinja, std::string_view text, const F& f) {
  for (size_t at = jinja.find(text); at != jinja.npos; at = jinja.find(text, at + 1))
    if (f(jinja.substr(0, at), jinja.substr(at + text.size()))) return true;
  return false;
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
// and <|im_end|>: a whole quoted text, or written as it is.
struct SystemText {
  std::string literal;
  bool other = false;  // there is one that is neither this nor the content of a message
};
SystemText system_text(std::string_view jinja) {
  SystemText found;
  any_mention(jinja, "<|im_start|>system", [&](std::string_view before, std::string_view rest) {
    const size_t size = line_break(rest), end = rest.find("<|im_end|>");
    if (size == 0) return false;
    if (end == rest.npos) return true;
    const std::string_view text = rest.substr(size, end - size);
    if (text.empty() || has(text, "content")) return false;
    std::optional<std::string> literal;
    if (!in_expression(before)) {
      if (!has(text, "{")) literal = text;
    } else {  // of a text that begins here or before
      const char last = before.back();
      const bool whole = last == '\'' || last == '"' ? end_of_quoted(text, last) == text.npos
                                                     : text.find_first_of("'\"") == text.npos;
      if (whole) literal = unescaped(text);
    }
    if (literal && found.literal.empty()) found.literal = *literal;
    found.other = found.other || !literal;
    return false;
  });
  return found;
}

// The text of {% set system_message = 'text' %}, the first that is not empty.
std::string set_system(std::string_view jinja) {
  std::string found;
  any_mention(jinja, "set ", [&](std::string_view, std::string_view after) {
    const std::string_view from = without(after, " ");
    size_t length = 0;
    while (length < from.size() && (std::isalnum(static_cast<unsigned char>(from[length])) ||
                                    from[length] == '_' || from[length] == '.'))
      ++length;
    std::string_view value = without(from.substr(length), " ");
    if (!has(from.substr(0, length), "system") || !value.starts_with("=")) return false;
    value = without(value.substr(1), " ");
    if (!value.starts_with("'") && !value.starts_with("\"")) return false;
    const char quote = value[0];
    value.remove_prefix(1);
    const size_t end = end_of_quoted(value, quote);
    if (end == value.npos || end == 0) return false;
    if (!without(value.substr(end + 1), " -").starts_with("%}")) return false;  // part of a text
    const std::string_view text = value.substr(0, end);
    found = unescaped(text).value_or(std::string(text));
    return true;
  });
  return found;
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
    if (any_mention(jinja, end, [&](std::string_view, std::string_view after) {
          const LineEnds one = line_after(after);
          if (one == LineEnds::no) all = one;
          return one == LineEnds::yes;
        }))
      return LineEnds::yes;
  return all;
}

// BOS by its name, or by its text.
template <typename F>
bool any_bos(std::string_view jinja, const std::string& bos, const F& f) {
  if (any_mention(jinja, "bos_token", f)) return true;
  return !bos.empty() && bos != "<|im_start|>" && any_mention(jinja, bos, f);  // which begins turns
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
  return any_mention(jinja, "eos_token", [](std::string_view before, std::string_view) {
    const size_t last = before.find_last_not_of(" +~");
    if (last == before.npos) return false;
    before = before.substr(0, last + 1);
    return before.ends_with("' '") || before.ends_with("\" \"");
  });
}

// Whether turns begin with the role of the message, whatever it is.
bool writes_roles(std::string_view jinja) {
  return any_mention(jinja, "<|im_start|>", [](std::string_view, std::string_view after) {
    const std::string_view rest = without(after, "'\" +~{}-");
    return has(rest.substr(0, rest.find_first_of("}\\\n")), "role");
  });
}

// Zephyr's turns, which TinyLlama's are: <|role|>, a line break, the content, EOS; the answer's
// header has its line break also where the answer does not follow.
bool is_zephyr(std::string_view jinja) {
  for (const char* header : {"<|system|>", "<|user|>", "<|assistant|>"})
    if (!any_mention(jinja, header, [](std::string_view, std::string_view after) {
          const size_t line = line_break(after), content = after.find("content");
          if (line == 0 || content == after.npos) return false;
          const std::string_view between = after.substr(line, content - line);
          return !has(between, "\n") && !has(between, "\\n") && !has(between, "%}") &&
                 without(after.substr(content + 7), "'\"] +~{}-").starts_with("eos_token");
        }))
      return false;
  return !any_mention(jinja, "<|assistant|>", [](std::string_view, std::string_view after) {
    return line_after(after) != LineEnds::yes;
  });
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
  if (is_zephyr(jinja)) return ChatFormat::zephyr;
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
  if (own.format == ChatFormat::chatml || own.format == ChatFormat::zephyr) {
    const LineEnds lines = line_ends_of(jinja);
    own.line_ends = lines != LineEnds::no;
    not_written(own.trims, "what its template trims of the contents");
    not_written(lines == LineEnds::unknown,
                "anything but a line break between turns, if its template has it");
  }
  if (own.format == ChatFormat::chatml) {
    const SystemText system = system_text(jinja);
    own.system = system.literal;
    own.ends_with_eos = !has(jinja, "<|im_end|>") && has(jinja, "eos_token");
    not_written(system.other, "a system text that its template makes where none is given");
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
