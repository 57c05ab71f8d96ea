// The bodies of POST /v1/completions and /v1/chat/completions, as OpenAI's API has them, checked.
// Every field is used, refused, or one that changes no answer (docs/serving.md has the table).
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/conversation.h"
#include "models/llama/generate.h"

namespace mullion::server {

// What both have.
struct Wanted {
  std::string model;                          // as the client calls it; any name is answered
  std::optional<int64_t> max_tokens;          // of an answer
  SamplerOptions sampling{.temperature = 1};  // OpenAI's defaults
  bool has_seed = false;
  std::vector<std::string> stops;
  int64_t n = 1;     // answers to each prompt
  int64_t top = -1;  // log-probabilities: -1: none, else of so many likeliest
  bool stream = false, include_usage = false;
};

struct Prompt {
  std::string text;  // one of the two
  std::vector<int32_t> ids;
};

struct CompletionRequest : Wanted {
  std::vector<Prompt> prompts;
  bool echo = false;
};

struct ChatRequest : Wanted {
  std::vector<Turn> turns;  // a system turn or none, then user and assistant, the user last
};

// ApiError(400) names the field.
CompletionRequest parse_completion(std::string_view body);
ChatRequest parse_chat(std::string_view body);

}  // namespace mullion::server
