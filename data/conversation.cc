// A file's form by its first bytes, a row's shape by its keys; both must stay the same to the end.
#include "data/conversation.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "data/text_lines.h"
#include "tensor/check.h"
#include "tensor/io/json.h"
#include "tensor/words.h"

namespace mullion {
namespace {

using nlohmann::json;
using std::filesystem::path;

constexpr size_t kShownKeys = 200;  // characters

std::string keys_of(const json& row) {
  const std::string keys = joined(row.items(), ", ", [](const auto& field) { return field.key(); });
  return keys.size() > kShownKeys ? keys.substr(0, kShownKeys) + " ..." : keys;
}

// How much of a value a message shows.
std::string shown(const json& value) {
  const std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  return text.size() > 60 ? text.substr(0, 60) + " ..." : text;
}

// A shape: the fields by which it is known, and all that it reads.
struct Shape {
  const char* name;
  std::vector<std::string> needed, read;
};
const std::vector<Shape>& shapes() {
  static const std::vector<Shape> list = {
      {"messages", {"messages"}, {"messages"}},
      {"sharegpt", {"conversations"}, {"conversations", "system"}},
      {"instruction",
       {"instruction", "output"},
       {"instruction", "output", "input", "system", "history"}},
      {"prompt", {"prompt", "completion"}, {"prompt", "completion", "system"}},
      {"text", {"text"}, {"text"}},  // also beside the others, as a rendering of the same
  };
  return list;
}

// The shape of a row by its fields; none has all that any shape needs.
const Shape* shape_of(const json& row, const std::string& where) {
  const Shape* found = nullptr;
  for (const Shape& shape : shapes()) {
    const bool has = std::all_of(shape.needed.begin(), shape.needed.end(),
                                 [&](const std::string& key) { return row.contains(key); });
    if (!has || (found && shape.needed[0] == "text")) continue;
    CHECK_AS(Fault::bad_file, !found, where, ": fields of two shapes, ", found ? found->name : "",
             " and ", shape.name, " (it has: ", keys_of(row), ")");
    found = &shape;
  }
  return found;
}

class RowReader {
 public:
  RowReader(const Shape& shape, const json& row, std::string where)
      : shape_(shape), row_(row), where_(std::move(where)) {}

  Conversation read() {
    Conversation result;
    result.where = where_;
    const std::string name = shape_.name;
    if (name == "text") {
      result.is_text = true;
      result.turns.push_back({Role::assistant, text("text"), "", "text"});
      CHECK_AS(Fault::bad_file, !result.turns[0].content.empty(), where_, ": text is empty");
      return result;
    }
    if (name != "messages") add_system(result);
    if (name == "instruction") read_instruction(result);
    if (name == "prompt") {
      result.turns.push_back({Role::user, text("prompt"), "", "prompt"});
      result.turns.push_back({Role::assistant, text("completion"), "", "completion"});
    }
    if (name == "messages") read_turns(result, "messages", "role", "content");
    if (name == "sharegpt") read_turns(result, "conversations", "from", "value");
    check(result);
    return result;
  }

  std::set<std::string> not_used;  // fields inside of turns

 private:
  [[noreturn]] void wrong(const std::string& field, const std::string& what) const {
    throw Error(where_ + ": " + field + ": " + what, Fault::bad_file);
  }

  const std::string& string_at(const json& object, const std::string& key,
                               const std::string& field) const {
    const auto found = object.find(key);
    if (found == object.end()) wrong(field, "is missing (there are: " + keys_of(object) + ")");
    if (!found->is_string()) wrong(field, "is no string but " + shown(*found));
    return found->get_ref<const std::string&>();
  }
  std::string text(const std::string& key) const { return string_at(row_, key, key); }
  // "" where it is absent or null.
  std::string text_or_none(const std::string& key) const {
    const auto found = row_.find(key);
    return found == row_.end() || found->is_null() ? "" : text(key);
  }

  void add_system(Conversation& c) const {
    if (const std::string system = text_or_none("system"); !system.empty())
      c.turns.push_back({Role::system, system, "", "system"});
  }

  void read_instruction(Conversation& c) const {
    if (const auto past = row_.find("history"); past != row_.end() && !past->is_null()) {
      if (!past->is_array()) wrong("history", "is no list but " + shown(*past));
      for (size_t i = 0; i < past->size(); ++i) {
        const std::string field = concat("history[", i, "]");
        const json& pair = (*past)[i];
        if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string())
          wrong(field, "is no pair of a question and an answer but " + shown(pair));
        c.turns.push_back({Role::user, pair[0].get<std::string>(), "", field + "[0]"});
        c.turns.push_back({Role::assistant, pair[1].get<std::string>(), "", field + "[1]"});
      }
    }
    c.turns.push_back({Role::user, text("instruction"), text_or_none("input"), "instruction"});
    c.turns.push_back({Role::assistant, text("output"), "", "output"});
  }

  void read_turns(Conversation& c, const std::string& list, const std::string& role,
                  const std::string& content) {
    const json& turns = row_[list];
    if (!turns.is_array()) wrong(list, "is no list but " + shown(turns));
    if (turns.empty()) wrong(list, "is empty");
    for (size_t i = 0; i < turns.size(); ++i) {
      const std::string field = concat(list, "[", i, "]");
      if (!turns[i].is_object()) wrong(field, "is no object but " + shown(turns[i]));
      const std::string& who = string_at(turns[i], role, field + "." + role);
      const std::optional<Role> known = role_named(who, list);
      if (!known)
        wrong(field + "." + role, "'" + who + "' is none of " +
                                      (list == "messages" ? "system, user, assistant"
                                                          : "system, human, user, gpt, assistant"));
      for (const auto& [key, unused] : turns[i].items())
        if (key != role && key != content) not_used.insert(list + "[]." + key);
      c.turns.push_back(
          {*known, string_at(turns[i], content, field + "." + content), "", field + "." + content});
    }
  }

  static std::optional<Role> role_named(const std::string& who, const std::string& list) {
    if (who == "system") return Role::system;
    if (who == "user" || (list != "messages" && who == "human")) return Role::user;
    if (who == "assistant" || (list != "messages" && who == "gpt")) return Role::assistant;
    return std::nullopt;
  }

  void check(const Conversation& c) const {
    Role next = Role::user;
    for (size_t i = 0; i < c.turns.size(); ++i) {
      const Turn& turn = c.turns[i];
      if (turn.role == Role::system) {
        if (i > 0) wrong(turn.field, "a system turn that is not the first");
        continue;
      }
      if (turn.role != next)
        wrong(turn.field, std::string("a turn of the ") + name_of(turn.role) + " where the " +
                              name_of(next) + "'s is due: turns go user, assistant, user, ...");
      if (turn.role == Role::assistant &&
          turn.content.find_first_not_of(" \t\r\n") == turn.content.npos)
        wrong(turn.field, "an empty answer: there is nothing to learn");
      if (turn.role == Role::user && turn.content.empty() && turn.input.empty())
        wrong(turn.field, "is empty");
      next = next == Role::user ? Role::assistant : Role::user;
    }
    const Turn& last = c.turns.back();
    if (last.role != Role::assistant)
      wrong(last.field, std::string("the last turn is the ") + name_of(last.role) +
                            "'s: there is no answer to learn");
  }

  const Shape& shape_;
  const json& row_;
  const std::string where_;
};

class FileReader {
 public:
  FileReader(const path& file, const ConversationOptions& options,
             const std::function<bool(Conversation)>& use)
      : options_(options), use_(use) {
    found_.file = file.string();
  }

  ConversationFile read() {
    const auto bytes = open_file(found_.file);
    if (is_list(*bytes))
      read_list();
    else
      read_json_lines(*bytes);
    CHECK_AS(Fault::bad_file, found_.rows > 0, found_.file, ": no rows");
    if (shape_) found_.shape = shape_->name;
    return std::move(found_);
  }

 private:
  static bool is_list(const ByteSource& bytes) {
    std::string head(std::min<uint64_t>(bytes.size(), 4096), '\0');
    bytes.read_at(0, std::as_writable_bytes(std::span(head)));
    std::erase(head, '\0');  // of UTF-16
    const size_t first = head.find_first_not_of("\xEF\xBB\xBF\xFF\xFE \t\r\n");
    return first != std::string::npos && head[first] == '[';
  }

  void read_list() {
    JsonLimits limits;
    limits.max_bytes = size_t{2} << 30;
    const std::string text =
        decode_text(read_whole_file(found_.file, limits.max_bytes), options_.encoding, found_.file);
    const json list = parse_json(text, found_.file, limits);
    for (size_t i = 0; i < list.size(); ++i)
      if (!take(concat(found_.file, ": row ", i + 1), [&]() -> const json& { return list[i]; }))
        return;
  }

  void read_json_lines(const ByteSource& bytes) {
    const bool whole =
        options_.encoding != TextEncoding::utf8 && options_.encoding != TextEncoding::latin1;
    std::string text;
    std::unique_ptr<ByteSource> decoded;
    if (whole) {  // UTF-16 has the byte of a line break in other characters
      text = decode_text(read_whole_file(found_.file, INT32_MAX), options_.encoding, found_.file);
      decoded = view_bytes(std::as_bytes(std::span(text)), found_.file);
    }
    read_lines(whole ? *decoded : bytes, options_.max_line_bytes, [&](TextLine line) {
      if (line.bytes.find_first_not_of(" \t\r") == std::string::npos) return true;
      const std::string where = concat(found_.file, ": line ", line.number);
      json value;
      return take(where, [&]() -> const json& {
        const std::string row =
            decode_text(std::move(line.bytes), whole ? TextEncoding::utf8 : options_.encoding,
                        found_.file, line.offset);
        return value = parse_json(row, where);
      });
    });
  }

  template <typename Get>
  bool take(const std::string& where, const Get& get) {
    ++found_.rows;
    try {
      return use_(conversation(get(), where));
    } catch (const Error& error) {
      if (error.fault() != Fault::bad_file) throw;
      if (!options_.drop_bad)
        throw Error(error.what(), Fault::bad_file,
                    error.hint().empty() ? "--bad-rows drop leaves such rows out and counts them"
                                         : error.hint());
      if (found_.bad++ == 0) found_.first_bad = error.what();
      return true;
    }
  }

  Conversation conversation(const json& row, const std::string& where) {
    CHECK_AS(Fault::bad_file, row.is_object(), where, ": a row is no object but ", shown(row));
    const Shape* const shape = shape_of(row, where);
    if (!shape_ && shape) shape_ = shape;
    if (!shape || shape != shape_) refuse(row, where, shape);
    RowReader reader(*shape, row, where);
    Conversation result = reader.read();
    for (const auto& [key, unused] : row.items())
      if (std::find(shape->read.begin(), shape->read.end(), key) == shape->read.end())
        ++found_.not_used[key];
    for (const std::string& key : reader.not_used) ++found_.not_used[key];
    return result;
  }

  // A row without the fields of the file's shape.
  [[noreturn]] void refuse(const json& row, const std::string& where, const Shape* shape) const {
    const std::string has = " (it has: " + keys_of(row) + ")";
    if (shape)
      throw Error(concat(where, ": a row of shape ", shape->name, " in a file of shape ",
                         shape_->name, has),
                  Fault::bad_file, "a file has rows of one shape; --data takes several files");
    // The shape that it comes nearest to.
    for (const Shape& known : shapes())
      for (const std::string& key : known.needed)
        if ((!shape_ || shape_ == &known) && !row.contains(key) &&
            (shape_ || row.contains(known.needed[0])))
          throw Error(concat(where, ": the field ", key, " is missing", has), Fault::bad_file);
    throw Error(concat(where, ": of no known shape", has), Fault::bad_file,
                "instruction and output; prompt and completion; messages; conversations; text");
  }

  const ConversationOptions& options_;
  const std::function<bool(Conversation)>& use_;
  const Shape* shape_ = nullptr;
  ConversationFile found_;
};

}  // namespace

const char* name_of(Role role) {
  constexpr std::array kNames = {"system", "user", "assistant"};
  return kNames[static_cast<size_t>(role)];
}

bool may_follow(std::optional<Role> before, Role role) {
  if (role == Role::system) return !before;
  return (role == Role::user) == (before != Role::user);
}

ConversationFile read_conversations(const path& file, const ConversationOptions& options,
                                    const std::function<bool(Conversation)>& use) {
  return FileReader(file, options, use).read();
}

}  // namespace mullion
