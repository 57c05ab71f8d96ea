// One class a request, with a whole answer and its chunks made of the same parts.
#include "apps/llama/server/reply.h"

#include <algorithm>

#include "data/utf8.h"
#include "tensor/words.h"

namespace mullion::server {

using Json = nlohmann::ordered_json;

std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string token_name(const Tokenizer& tokenizer, int32_t id) {
  const std::string& bytes = tokenizer.token_bytes(id);
  if (utf8_prefix(bytes) == bytes.size()) return bytes;
  std::string name = "bytes:";
  for (const char c : bytes) name += "\\x" + hex_of({&c, 1});
  return name;
}

void Reply::count(const Event& event) {
  generated_ += event.generated;
  reused_ += event.reused;
}

Json Reply::head(const std::string& object) const {
  return {
      {"id", facts_.id}, {"object", object}, {"created", facts_.created}, {"model", facts_.model}};
}

Json Reply::usage() const {
  return {{"prompt_tokens", prompt_tokens_},
          {"completion_tokens", generated_},
          {"total_tokens", prompt_tokens_ + generated_},
          // Each of n answers took them from the prompt, which counts once.
          {"prompt_tokens_details", {{"cached_tokens", std::min(reused_, prompt_tokens_)}}}};
}

std::string Reply::usage_chunk() const {
  Json json = head(object_);
  json["choices"] = Json::array();
  json["usage"] = usage();
  return text_of(json);
}

namespace {

Json finish_json(Finish finish) {
  if (finish == Finish::no) return nullptr;
  return finish == Finish::stop ? "stop" : "length";
}

// The four lists of a choice's log-probabilities, in the form of OpenAI's completions.
class TokenLists {
 public:
  TokenLists(const Tokenizer& tokenizer, std::string_view prompt, bool echo)
      : tokenizer_(tokenizer), prompt_(prompt), at_(echo ? 0 : utf8_length(prompt)) {
    clear();
  }
  void add(const ScoredToken& token) {
    const std::string name = token_name(tokenizer_, token.id);
    json_["tokens"].push_back(name);
    json_["token_logprobs"].push_back(token.logprob ? Json(*token.logprob) : Json());
    Json top;
    if (token.logprob) {
      top = Json::object();
      // Two tokens may have one text: the likelier one stays.
      const auto keep = [&](const std::string& key, double value) {
        if (!top.contains(key) || top[key].get<double>() < value) top[key] = value;
      };
      for (const auto& [id, value] : token.top) keep(token_name(tokenizer_, id), value);
      keep(name, *token.logprob);
    }
    json_["top_logprobs"].push_back(std::move(top));
    json_["text_offset"].push_back(at_);
    at_ += length(token.id);
  }
  // What has come since the last call.
  Json take() {
    Json out = std::move(json_);
    clear();
    return out;
  }
  const Json& all() const { return json_; }

 private:
  // Characters that a token adds to the text: at its start a BOS may stand that is not written, and
  // a SentencePiece word has a space that the text lacks.
  size_t length(int32_t id) const {
    const std::string& bytes = tokenizer_.token_bytes(id);
    if (at_ > 0 || prompt_.starts_with(bytes)) return utf8_length(bytes);
    if (tokenizer_.bos() == id) return 0;
    return utf8_length(bytes) - (bytes.starts_with(' ') ? 1 : 0);
  }
  void clear() {
    json_ = {{"tokens", Json::array()},
             {"token_logprobs", Json::array()},
             {"top_logprobs", Json::array()},
             {"text_offset", Json::array()}};
  }
  const Tokenizer& tokenizer_;
  std::string prompt_;
  size_t at_;
  Json json_;
};

class CompletionReply final : public Reply {
 public:
  CompletionReply(ReplyFacts facts, const CompletionRequest& request)
      : Reply(std::move(facts), "text_completion", tokens_of(request)),
        echo_(request.echo),
        scores_(request.top >= 0) {
    for (const Prompt& prompt : request.prompts)
      for (int64_t i = 0; i < request.n; ++i)
        choices_.push_back({prompt.text, {}, {tokenizer(), prompt.text, echo_}, Finish::no});
  }
  std::string chunk(const Event& event) override {
    count(event);
    Choice& choice = choices_[event.choice];
    std::string text = event.text;
    if (event.of_prompt) {
      if (!echo_) return "";
      text = choice.prompt + text;
    }
    for (const ScoredToken& token : event.tokens) choice.lists.add(token);
    if (text.empty() && event.tokens.empty() && event.finish == Finish::no) return "";
    Json json = head(object());
    json["choices"] = Json::array(
        {choice_json(event.choice, text, scores_ ? choice.lists.take() : Json(), event.finish)});
    return text_of(json);
  }
  void add(const Event& event) override {
    count(event);
    Choice& choice = choices_[event.choice];
    if (event.of_prompt && echo_) choice.text = choice.prompt;
    choice.text += event.text;
    for (const ScoredToken& token : event.tokens) choice.lists.add(token);
    choice.finish = event.finish;
  }
  std::string whole() const override {
    Json json = head(object());
    json["choices"] = Json::array();
    for (size_t i = 0; i < choices_.size(); ++i)
      json["choices"].push_back(choice_json(
          i, choices_[i].text, scores_ ? choices_[i].lists.all() : Json(), choices_[i].finish));
    json["usage"] = usage();
    return text_of(json);
  }

 private:
  struct Choice {
    std::string prompt, text;
    TokenLists lists;
    Finish finish;
  };
  static Json choice_json(size_t index, const std::string& text, Json logprobs, Finish finish) {
    return {{"index", index},
            {"text", text},
            {"logprobs", std::move(logprobs)},
            {"finish_reason", finish_json(finish)}};
  }
  static int64_t tokens_of(const CompletionRequest& request) {
    int64_t sum = 0;
    for (const Prompt& prompt : request.prompts) sum += std::ssize(prompt.ids);
    return sum;
  }
  bool echo_, scores_;
  std::vector<Choice> choices_;
};

class ChatReply final : public Reply {
 public:
  ChatReply(ReplyFacts facts, const ChatRequest& request, int64_t prompt_tokens)
      : Reply(std::move(facts), "chat.completion.chunk", prompt_tokens),
        scores_(request.top >= 0),
        choices_(static_cast<size_t>(request.n)) {}
  std::string chunk(const Event& event) override {
    count(event);
    Json delta = Json::object();
    if (event.of_prompt) {
      delta = {{"role", "assistant"}, {"content", ""}};
    } else if (!event.text.empty() || event.finish == Finish::no) {
      if (event.text.empty() && event.tokens.empty()) return "";
      delta = {{"content", event.text}};
    }
    Json json = head(object());
    Json choices = Json::array();
    const Json scores =
        scores_ && !event.tokens.empty() ? Json{{"content", tokens_of(event)}} : Json();
    // What ends an answer comes in a chunk of its own, after its last text.
    if (!delta.empty() || !scores.is_null())
      choices.push_back({{"index", event.choice},
                         {"delta", delta},
                         {"logprobs", scores},
                         {"finish_reason", nullptr}});
    std::string out;
    if (!choices.empty()) {
      json["choices"] = choices;
      out = text_of(json);
    }
    if (event.finish == Finish::no) return out;
    json["choices"] = Json::array({{{"index", event.choice},
                                    {"delta", Json::object()},
                                    {"logprobs", nullptr},
                                    {"finish_reason", finish_json(event.finish)}}});
    return out.empty() ? text_of(json) : out + "\n\ndata: " + text_of(json);
  }
  void add(const Event& event) override {
    count(event);
    Choice& choice = choices_[event.choice];
    choice.text += event.text;
    if (scores_)
      for (Json& token : tokens_of(event)) choice.tokens.push_back(std::move(token));
    choice.finish = event.finish;
  }
  std::string whole() const override {
    Json json = head("chat.completion");
    json["choices"] = Json::array();
    for (size_t i = 0; i < choices_.size(); ++i)
      json["choices"].push_back(
          {{"index", i},
           {"message",
            {{"role", "assistant"}, {"content", choices_[i].text}, {"refusal", nullptr}}},
           {"logprobs", scores_ ? Json{{"content", choices_[i].tokens}} : Json()},
           {"finish_reason", finish_json(choices_[i].finish)}});
    json["usage"] = usage();
    return text_of(json);
  }

 private:
  struct Choice {
    std::string text;
    Json tokens = Json::array();
    Finish finish = Finish::no;
  };
  Json token_json(int32_t id, double logprob) const {
    const std::string& bytes = tokenizer().token_bytes(id);
    Json list = Json::array();
    for (const char c : bytes) list.push_back(static_cast<unsigned char>(c));
    return {{"token", token_name(tokenizer(), id)}, {"logprob", logprob}, {"bytes", list}};
  }
  std::vector<Json> tokens_of(const Event& event) const {
    std::vector<Json> tokens;
    for (const ScoredToken& token : event.tokens) {
      Json entry = token_json(token.id, token.logprob.value_or(0));
      entry["top_logprobs"] = Json::array();
      for (const auto& [id, value] : token.top)
        entry["top_logprobs"].push_back(token_json(id, value));
      tokens.push_back(std::move(entry));
    }
    return tokens;
  }
  bool scores_;
  std::vector<Choice> choices_;
};

}  // namespace

std::unique_ptr<Reply> completion_reply(ReplyFacts facts, const CompletionRequest& request) {
  return std::make_unique<CompletionReply>(std::move(facts), request);
}

std::unique_ptr<Reply> chat_reply(ReplyFacts facts, const ChatRequest& request,
                                  int64_t prompt_tokens) {
  return std::make_unique<ChatReply>(std::move(facts), request, prompt_tokens);
}

}  // namespace mullion::server
