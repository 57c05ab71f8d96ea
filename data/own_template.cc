// Searches in the text; what stands between special texts is Jinja or written as it is.
#include "data/own_template.h"

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

// 'It\'s' in a template: It's.
std::string unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    const char c = text[++i];
    out += c == 'n' ? '\n' : c == 't' ? '\t' : c;
  }
  return out;
}

// The system text that a ChatML template writes by itself: what stands between
// <|im_start|>system, a line break and <|im_end|>, and is no expression.
std::string literal_system(std::string_view jinja) {
  constexpr std::string_view kHead = "<|im_start|>system", kTail = "<|im_end|>";
  for (size_t at = jinja.find(kHead); at != jinja.npos; at = jinja.find(kHead, at + 1)) {
    const std::string_view rest = jinja.substr(at + kHead.size());
    const size_t size = line_break(rest), end = rest.find(kTail);
    if (size == 0) continue;
    if (end == rest.npos) break;
    const std::string_view text = rest.substr(size, end - size);
    // A quote ends the text, unless it is of the other kind or escaped.
    const std::string_view before = jinja.substr(0, at);
    const char quote = before.empty() ? '\0' : before.back();
    bool ends = has(text, "{") || has(text, "}") || text.starts_with("'") || text.starts_with("\"");
    if (quote == '\'' || quote == '"')
      for (size_t i = 0; i < text.size(); ++i)
        ends = ends || (text[i] == quote && (i == 0 || text[i - 1] != '\\'));
    if (!text.empty() && !ends)
      return quote == '\'' || quote == '"' ? unescaped(text) : std::string(text);
  }
  return "";
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
    const size_t end = value.find(value[0], 1);
    if (end != value.npos && end > 1) return unescaped(value.substr(1, end - 1));
  }
  return "";
}

// Whether the end of a turn is followed by a line break: in its own text, or in the next one that a
// + or ~ joins to it. Where no end is seen, it is as in most templates.
bool line_after_end(std::string_view jinja) {
  bool seen = false;
  for (const std::string_view end : {"<|im_end|>", "eos_token"})
    for (size_t at = jinja.find(end); at != jinja.npos; at = jinja.find(end, at + 1)) {
      seen = true;
      if (line_break(without(jinja.substr(at + end.size()), "'\" +~")) > 0) return true;
    }
  return !seen;
}

bool bos_before_inst(std::string_view jinja) {
  for (size_t at = jinja.find("[INST]"); at != jinja.npos; at = jinja.find("[INST]", at + 1)) {
    const std::string_view before = jinja.substr(0, at);
    const size_t last = before.find_last_not_of("'\" +~{}");
    if (last != before.npos && before.substr(0, last + 1).ends_with("bos_token")) return true;
  }
  return false;
}

std::optional<ChatFormat> format_of(std::string_view jinja) {
  if (has(jinja, "<|im_start|>")) return ChatFormat::chatml;
  if (has(jinja, "[INST]")) {
    if (has(jinja, "<<SYS>>") && bos_before_inst(jinja)) return ChatFormat::llama2;
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

std::optional<OwnTemplate> read_own_template(const std::string& jinja) {
  const std::optional<ChatFormat> format = format_of(jinja);
  if (!format) return std::nullopt;
  OwnTemplate own{.format = *format};
  own.bos = has(jinja, "bos_token");
  own.trims = has(jinja, "trim") || has(jinja, "strip(");
  const bool chatml = own.format == ChatFormat::chatml;
  if (chatml) {
    own.system = literal_system(jinja);
    own.line_ends = line_after_end(jinja);
    if (own.trims) own.not_written.push_back("what its template trims of the contents");
  }
  const std::string set = set_system(jinja);
  if (!set.empty() && set != own.system)
    own.not_written.push_back("the system text that its template sets where none is given: " + set);
  if (own.format == ChatFormat::llama3 && has(jinja, "Cutting Knowledge Date"))
    own.not_written.push_back("the dates that its template puts into the system turn");
  return own;
}

}  // namespace mullion
