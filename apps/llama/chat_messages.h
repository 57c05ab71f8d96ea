// Conversations in the form of OpenAI's interface: [{"role": "user", "content": "..."}, ...].
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "data/conversation.h"

namespace mullion {

// A system turn or none, then user and assistant in turn, the user last. Error(bad_file) names
// `where` and the field, "messages[2].role".
std::vector<Turn> parse_messages(const nlohmann::json& list, const std::string& where);

}  // namespace mullion
