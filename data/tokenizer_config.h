// What the JSON files beside a vocabulary say of chats and of generating.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace mullion {

// tokenizer_config.json's "chat_template": a text, or a list of {"name", "template"}, of which
// transformers takes the one that is named default. Of those that are not taken a note; "" where
// none is. Error(bad_file) names the file.
std::string default_chat_template(const nlohmann::json& chat, const std::string& file,
                                  std::vector<std::string>& notes);

// A note of what generation_config.json has of rules that change which tokens transformers'
// generate() draws and that nothing here follows. Temperature and the like are the caller's.
void note_unfollowed_rules(const nlohmann::json& config, const std::string& file,
                           std::vector<std::string>& notes);

}  // namespace mullion
