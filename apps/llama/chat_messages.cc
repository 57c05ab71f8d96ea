// A list of messages checked one by one; errors name the place within it.
#include "apps/llama/chat_messages.h"

#include <nlohmann/json.hpp>

#include "tensor/check.h"

namespace mullion {
namespace {

[[noreturn]] void wrong(const std::string& where, const std::string& field,
                        const std::string& what) {
  throw Error(concat(where, ": ", field, ": ", what), Fault::bad_file);
}

std::string text_of(const nlohmann::json& message, const char* key, const std::string& where,
                    const std::string& field) {
  const auto found = message.find(key);
  if (found == message.end()) wrong(where, field, concat("has no ", key));
  if (!found->is_string()) wrong(where, concat(field, ".", key), "is no string");
  return found->get<std::string>();
}

}  // namespace

std::vector<Turn> parse_messages(const nlohmann::json& list, const std::string& where) {
  if (!list.is_array() || list.empty()) wrong(where, "messages", "is no list of messages");
  std::vector<Turn> turns;
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string field = concat("messages[", i, "]");
    if (!list[i].is_object()) wrong(where, field, "is no object");
    for (const auto& [key, unused] : list[i].items())
      if (key != "role" && key != "content")
        wrong(where, concat(field, ".", key), "a field of messages that is not known here");
    const std::string role = text_of(list[i], "role", where, field);
    Turn turn{Role::user, text_of(list[i], "content", where, field), "", field + ".content"};
    if (role == name_of(Role::system))
      turn.role = Role::system;
    else if (role == name_of(Role::assistant))
      turn.role = Role::assistant;
    else if (role != name_of(Role::user))
      wrong(where, field + ".role", "'" + role + "' is none of system, user, assistant");
    if (!may_follow(turns.empty() ? std::nullopt : std::optional(turns.back().role), turn.role))
      wrong(where, field + ".role",
            role + " is not next: a system's turn or none, then user and assistant in turn");
    turns.push_back(std::move(turn));
  }
  if (turns.back().role != Role::user)
    wrong(where, "messages", "end with no user's turn that could be answered");
  return turns;
}

}  // namespace mullion
