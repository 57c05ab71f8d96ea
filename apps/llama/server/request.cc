// Each field checked where it is read; the two requests share the fields that they have in common.
#include "apps/llama/server/request.h"

#include "apps/llama/server/api_error.h"
#include "apps/llama/server/fields.h"
#include "tensor/check.h"
#include "tensor/io/json.h"

namespace mullion::server {
namespace {

using nlohmann::json;

constexpr int64_t kMostStops = 4, kMostTop = 20, kMostAnswers = 128;
constexpr size_t kMostStopBytes = 1024;
constexpr int64_t kMostTokens = int64_t{1} << 31;

// JSON with one meaning: valid UTF-8, no key twice, at most 64 levels deep.
json parse_body(std::string_view body) {
  if (body.empty()) throw ApiError(400, "the body is empty: expected JSON", "", "invalid_json");
  try {
    return parse_json(body, "the body", {.max_bytes = body.size()});
  } catch (const Error& error) {
    throw ApiError(400, error.what(), "", "invalid_json");
  }
}

std::vector<std::string> stop_texts(Fields& fields) {
  const json* value = fields.find("stop");
  if (!value) return {};
  std::vector<std::string> stops;
  const auto add = [&](const json& text, const std::string& path) {
    if (!text.is_string() || text.get_ref<const std::string&>().empty() ||
        text.get_ref<const std::string&>().size() > kMostStopBytes)
      throw ApiError(400,
                     concat(path, ": expected a text of 1 to ", kMostStopBytes, " bytes, found ",
                            describe(text)),
                     path, "wrong_type");
    stops.push_back(text.get<std::string>());
  };
  if (!value->is_array()) {
    add(*value, "stop");
    return stops;
  }
  if (std::ssize(*value) > kMostStops)
    throw ApiError(400, concat("stop: ", value->size(), " texts, but at most ", kMostStops), "stop",
                   "too_many");
  for (size_t i = 0; i < value->size(); ++i) add((*value)[i], concat("stop[", i, "]"));
  return stops;
}

// The fields of both requests.
void parse_wanted(Fields& fields, Wanted& to) {
  to.model = fields.text("model").value_or("");
  to.sampling.temperature = fields.number("temperature", 0, 2).value_or(1);
  to.sampling.top_p = fields.number("top_p", 1e-9, 1).value_or(1);
  to.sampling.min_p = fields.number("min_p", 0, 1).value_or(0);
  to.sampling.top_k = std::max<int64_t>(0, fields.integer("top_k", -1, kMostTokens).value_or(0));
  const auto seed = fields.integer("seed", INT64_MIN, INT64_MAX);
  to.has_seed = seed.has_value();
  to.sampling.seed = static_cast<uint64_t>(seed.value_or(0));
  to.stops = stop_texts(fields);
  to.n = fields.integer("n", 1, kMostAnswers).value_or(1);
  to.stream = fields.boolean("stream").value_or(false);
  if (const json* value = fields.find("stream_options")) {
    Fields options(*value, "stream_options.");
    to.include_usage = options.boolean("include_usage").value_or(false);
    options.only("include_obfuscation", {false});
    options.finish();
    if (!to.stream)
      throw ApiError(400, "stream_options: only with \"stream\": true", "stream_options",
                     "unsupported_field");
  }
  fields.only("presence_penalty", {0});
  fields.only("frequency_penalty", {0});
  fields.only("logit_bias", {json::object()});
  fields.only("store", {false});
  fields.only("service_tier", {"auto", "default"});
  for (const char* name : {"user", "metadata", "safety_identifier", "prompt_cache_key"})
    fields.unused(name);
}

std::vector<int32_t> token_ids(const json& list, const std::string& path) {
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    if (!list[i].is_number_unsigned() || list[i].get<uint64_t>() > INT32_MAX)
      throw ApiError(400, concat(path, "[", i, "]: expected a token id, found ", describe(list[i])),
                     "prompt", "wrong_type");
    ids.push_back(list[i].get<int32_t>());
  }
  return ids;
}

// A text, a list of texts, the ids of one prompt, or a list of such lists.
std::vector<Prompt> prompts(const json& value) {
  if (value.is_string()) return {{value.get<std::string>(), {}}};
  const std::string forms = "a text, a list of texts, a list of token ids, or a list of such lists";
  if (!value.is_array() || value.empty())
    throw ApiError(400, concat("prompt: expected ", forms, ", found ", describe(value)), "prompt",
                   "wrong_type");
  if (value[0].is_number()) return {{"", token_ids(value, "prompt")}};
  std::vector<Prompt> found;
  for (size_t i = 0; i < value.size(); ++i) {
    const std::string path = concat("prompt[", i, "]");
    if (value[i].type() != value[0].type() ||
        !(value[i].is_string() || (value[i].is_array() && !value[i].empty())))
      throw ApiError(400,
                     concat(path, ": expected ", value[0].is_string() ? "a text" : "token ids",
                            ", found ", describe(value[i])),
                     "prompt", "wrong_type");
    if (value[i].is_string())
      found.push_back({value[i].get<std::string>(), {}});
    else
      found.push_back({"", token_ids(value[i], path)});
  }
  return found;
}

// A text, or a list of {"type": "text", "text"}.
std::string content(const json& value, const std::string& path) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array())
    throw ApiError(400, concat(path, ": expected a text, found ", describe(value)), path,
                   "wrong_type");
  std::string text;
  for (size_t i = 0; i < value.size(); ++i) {
    Fields part(value[i], concat(path, "[", i, "]."));
    part.only("type", {"text"});
    part.need("type");
    part.need("text");
    text += *part.text("text");
    part.finish();
  }
  return text;
}

Turn turn(const json& value, size_t index) {
  const std::string path = concat("messages[", index, "].");
  Fields fields(value, path);
  fields.need("role");
  const std::string role = *fields.text("role");
  Turn turn{.role = Role::user, .content = {}, .input = {}, .field = path + "content"};
  if (role == "system" || role == "developer")
    turn.role = Role::system;
  else if (role == "assistant")
    turn.role = Role::assistant;
  else if (role != "user")
    throw ApiError(
        400,
        concat(path, "role: expected system, developer, user or assistant, found ", describe(role)),
        path + "role", "unsupported_field");
  turn.content = content(fields.need("content"), turn.field);
  fields.unused("name");
  for (const char* name : {"tool_calls", "function_call", "refusal", "audio", "annotations"})
    fields.only(name, {json::array()});
  fields.finish();
  return turn;
}

std::vector<Turn> turns(const json& messages) {
  if (!messages.is_array() || messages.empty())
    throw ApiError(400, concat("messages: expected a list of messages, found ", describe(messages)),
                   "messages", "wrong_type");
  std::vector<Turn> found;
  for (size_t i = 0; i < messages.size(); ++i) {
    found.push_back(turn(messages[i], i));
    const Role role = found.back().role;
    if (!may_follow(i == 0 ? std::nullopt : std::optional(found[i - 1].role), role))
      throw ApiError(400,
                     concat("messages[", i, "].role: ", name_of(role),
                            " does not follow there: a system message or none comes first, then "
                            "user and assistant in turn"),
                     concat("messages[", i, "].role"), "role_order");
  }
  if (found.back().role != Role::user)
    throw ApiError(400,
                   concat("messages[", found.size() - 1,
                          "].role: the last message must be the "
                          "user's, to be answered"),
                   concat("messages[", found.size() - 1, "].role"), "role_order");
  return found;
}

}  // namespace

CompletionRequest parse_completion(std::string_view body) {
  const json object = parse_body(body);
  Fields fields(object);
  CompletionRequest request;
  parse_wanted(fields, request);
  request.prompts = prompts(fields.need("prompt"));
  request.max_tokens = fields.integer("max_tokens", 0, kMostTokens).value_or(16);
  request.echo = fields.boolean("echo").value_or(false);
  request.top = fields.integer("logprobs", 0, kMostTop).value_or(-1);
  fields.only("best_of", {1, request.n});
  fields.only("suffix", {""});
  fields.finish();
  return request;
}

ChatRequest parse_chat(std::string_view body) {
  const json object = parse_body(body);
  Fields fields(object);
  ChatRequest request;
  parse_wanted(fields, request);
  request.turns = turns(fields.need("messages"));
  request.max_tokens = fields.integer("max_completion_tokens", 1, kMostTokens);
  const auto older = fields.integer("max_tokens", 1, kMostTokens);
  if (older && request.max_tokens && *older != *request.max_tokens)
    throw ApiError(400,
                   concat("max_tokens ", *older, " and max_completion_tokens ", *request.max_tokens,
                          ": only one of them"),
                   "max_tokens", "contradiction");
  if (older) request.max_tokens = older;
  const bool scores = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs", 0, kMostTop);
  if (top && *top > 0 && !scores)
    throw ApiError(400, "top_logprobs: only with \"logprobs\": true", "top_logprobs",
                   "contradiction");
  if (scores) request.top = top.value_or(0);
  fields.only("tools", {json::array()});
  fields.only("functions", {json::array()});
  fields.only("tool_choice", {"none", "auto"});
  fields.only("function_call", {"none", "auto"});
  fields.only("parallel_tool_calls", {true, false});
  fields.only("response_format", {json{{"type", "text"}}});
  fields.only("modalities", {json::array({"text"})});
  for (const char* name :
       {"audio", "prediction", "reasoning_effort", "verbosity", "web_search_options"})
    fields.only(name, {});
  fields.finish();
  return request;
}

}  // namespace mullion::server
