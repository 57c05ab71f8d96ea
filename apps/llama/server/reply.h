// What a client gets: one JSON object, or the events of a stream, in the form of OpenAI's API.
#pragma once
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/llama/server/exchange.h"
#include "apps/llama/server/request.h"
#include "data/tokenizer.h"

namespace mullion::server {

// Of all replies.
struct ReplyFacts {
  const Tokenizer* tokenizer;
  std::string model;    // the name of what answers
  std::string id;       // "cmpl-12"
  int64_t created = 0;  // seconds since 1970
};

class Reply {
 public:
  virtual ~Reply() = default;
  // An event as a chunk of the stream; "" where there is nothing to tell. Counts it.
  virtual std::string chunk(const Event& event) = 0;
  // An event of a reply that is sent whole.
  virtual void add(const Event& event) = 0;
  virtual std::string whole() const = 0;
  // The chunk that stream_options.include_usage asks for.
  std::string usage_chunk() const;

 protected:
  Reply(ReplyFacts facts, const char* object, int64_t prompt_tokens)
      : facts_(std::move(facts)), object_(object), prompt_tokens_(prompt_tokens) {}
  void count(const Event& event);
  nlohmann::ordered_json head(const std::string& object) const;
  nlohmann::ordered_json usage() const;
  const Tokenizer& tokenizer() const { return *facts_.tokenizer; }
  const std::string& object() const { return object_; }

 private:
  ReplyFacts facts_;
  std::string object_;
  int64_t prompt_tokens_, generated_ = 0, reused_ = 0;
};

// `prompts` as the request has them, with both text and ids.
std::unique_ptr<Reply> completion_reply(ReplyFacts facts, const CompletionRequest& request);
std::unique_ptr<Reply> chat_reply(ReplyFacts facts, const ChatRequest& request,
                                  int64_t prompt_tokens);

// JSON text; bytes that are not UTF-8 become U+FFFD.
std::string text_of(const nlohmann::ordered_json& json);
// A token's text in JSON: itself, or "bytes:\xe2\x82" where it is no whole characters.
std::string token_name(const Tokenizer& tokenizer, int32_t id);

}  // namespace mullion::server
