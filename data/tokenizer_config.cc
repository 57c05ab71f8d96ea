// Fields by name.
#include "data/tokenizer_config.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "tensor/check.h"
#include "tensor/io/json.h"
#include "tensor/words.h"

namespace mullion {

using nlohmann::json;

std::string default_chat_template(const json& chat, const std::string& file,
                                  std::vector<std::string>& notes) {
  if (chat.is_string()) return chat.get<std::string>();
  CHECK_AS(Fault::bad_file, chat.is_array(), file, ": chat_template is neither a text nor a list");
  std::string taken;
  bool has_default = false;
  std::vector<std::string> others;
  for (const json& one : chat) {
    const std::string name = get_string(one, file, "name");
    if (name == "default") {
      taken = get_string(one, file, "template");
      has_default = true;
    } else {
      others.push_back(name);
    }
  }
  if (!others.empty())
    notes.push_back(concat(
        file, ": chat_template: ",
        has_default ? "default is taken, not " : "none is named default, so none is taken of ",
        joined(others)));
  return taken;
}

void note_unfollowed_rules(const json& config, const std::string& file,
                           std::vector<std::string>& notes) {
  static constexpr std::pair<const char*, double> kNumbers[] = {{"repetition_penalty", 1},
                                                                {"no_repeat_ngram_size", 0},
                                                                {"encoder_repetition_penalty", 1},
                                                                {"typical_p", 1},
                                                                {"epsilon_cutoff", 0},
                                                                {"eta_cutoff", 0},
                                                                {"min_length", 0},
                                                                {"num_beams", 1},
                                                                {"guidance_scale", 1},
                                                                {"min_new_tokens", 0}};
  static constexpr const char* kLists[] = {
      "suppress_tokens",     "begin_suppress_tokens", "bad_words_ids",
      "forced_bos_token_id", "forced_eos_token_id",   "forced_decoder_ids",
      "sequence_bias",       "stop_strings",          "exponential_decay_length_penalty"};
  std::vector<std::string> rules;
  for (const auto& [key, without] : kNumbers)
    if (const auto rule = config.find(key);
        rule != config.end() && rule->is_number() && rule->get<double>() != without)
      rules.push_back(concat(key, " ", rule->dump()));
  for (const char* key : kLists)
    if (const auto rule = config.find(key);
        rule != config.end() && !rule->is_null() && !rule->empty())
      rules.push_back(key);
  if (!rules.empty())
    notes.push_back(
        concat(file, ": rules for generating, which are not followed: ", joined(rules)));
}

}  // namespace mullion
