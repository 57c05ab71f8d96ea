// Instruction data: files of rows in the shapes that other tools write, read as conversations.
//
//   instruction  {"instruction", "input", "output"}, also "system" and "history": [[user, answer]]
//   prompt       {"prompt", "completion"}
//   messages     {"messages": [{"role", "content"}]}
//   sharegpt     {"conversations": [{"from", "value"}]}
//   text         {"text"}: learned as it is, without a template
//
// A file is a JSON list or a line of JSON for each row. The first row decides the shape; one of
// another shape is an error. So is every row that cannot be used as it stands: Error(bad_file)
// names file, row, field, and what is there.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "data/text_encoding.h"

namespace mullion {

enum class Role : uint8_t { system, user, assistant };
const char* name_of(Role role);

// Whether a turn of `role` may come after that of `before`, or first where that is nothing: a
// system's turn or none, then user and assistant in turn.
bool may_follow(std::optional<Role> before, Role role);

struct Turn {
  Role role;
  std::string content;
  std::string input;  // of an instruction, where the row has one that is not empty
  std::string field;  // where the row has it, "messages[2].content"
};

// A system turn or none, then user and assistant in turn, the assistant last. A row of texts has
// one turn, of the assistant.
struct Conversation {
  std::vector<Turn> turns;
  bool is_text = false;
  std::string where;  // "FILE: line 3" or "FILE: row 3", both from 1
};

struct ConversationOptions {
  TextEncoding encoding = TextEncoding::utf8;
  uint64_t max_line_bytes = 64 << 20;
  bool drop_bad = false;  // a row that is no conversation is left out and counted
};

struct ConversationFile {
  std::string file, shape;
  uint64_t rows = 0;                         // those left out included
  uint64_t bad = 0;                          // left out
  std::string first_bad;                     // why
  std::map<std::string, uint64_t> not_used;  // fields that no shape has, and in how many rows
};

// Calls use() with each row in order; false ends the reading. An Error that use() throws counts as
// one of the row.
ConversationFile read_conversations(const std::filesystem::path& file,
                                    const ConversationOptions& options,
                                    const std::function<bool(Conversation)>& use);

}  // namespace mullion
