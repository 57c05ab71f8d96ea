// chat_llama serve: its answers against the same model alone, what it refuses, and its ends.
#ifdef MULLION_HAVE_HTTPLIB
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "apps/llama/server/api_error.h"
#include "apps/llama/server/server.h"
#include "tests/apps/byte_tokenizer.h"
#include "tests/apps/programs.h"
#include "tests/apps/tiny_llama.h"

namespace mullion::server {
namespace {

using nlohmann::json;

constexpr int64_t kContext = 200;

LlamaConfig config() {
  LlamaConfig c = test::small_llama_config(8, 257);
  c.max_position_embeddings = kContext;
  c.initializer_range = 0.1;
  return c;
}

struct Settings {
  SchedulerOptions scheduler{.parallel = 3};
  ServerOptions server{.port = 0, .model = "tiny", .max_body = 100'000};
  bool chat = true;
};

// A server in this process, and a client of it.
class Running {
 public:
  explicit Running(const Settings& setup = {})
      : model(config()),
        tokenizer(test::byte_tokenizer()),
        scheduler((model.initialize(3), model), *tokenizer, {256}, setup.scheduler) {
    if (setup.chat) chat.emplace("vicuna", *tokenizer);
    Place place = take_place(setup.server.host, setup.server.port, setup.server.connections);
    port = place.port;
    server.emplace(std::move(place), setup.server, scheduler, model, *tokenizer, chat,
                   "no template");
    server->listen();
    decoder = std::thread([this] {
      while (!ends)
        if (!scheduler.turn()) scheduler.wait(std::chrono::milliseconds(5));
    });
  }
  ~Running() {
    server->stop();
    ends = true;
    decoder.join();
  }
  httplib::Client client() const {
    httplib::Client c("127.0.0.1", port);
    c.set_read_timeout(60);
    return c;
  }
  httplib::Response post(const std::string& path, const std::string& body) const {
    const httplib::Result result = client().Post(path, body, "application/json");
    EXPECT_TRUE(result) << httplib::to_string(result.error());
    return result ? result.value() : httplib::Response();
  }
  json completion(const json& body) const {
    const httplib::Response response = post("/v1/completions", body.dump());
    EXPECT_EQ(response.status, 200) << response.body;
    return json::parse(response.body);
  }
  // What the model says alone.
  std::string alone(const std::string& prompt, const SamplerOptions& sampling, int64_t tokens) {
    GenerateOptions how{
        .max_tokens = tokens, .sampling = sampling, .stop_ids = {256}, .cache = {}, .on_token = {}};
    const std::vector<int32_t> ids = generate(model, tokenizer->encode(prompt), how).ids;
    // As JSON writes it.
    return json::parse(
        json(tokenizer->decode(ids)).dump(-1, ' ', false, json::error_handler_t::replace));
  }

  Llama model;
  std::unique_ptr<Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat;
  Scheduler scheduler;
  std::optional<Server> server;
  int port = 0;
  std::atomic<bool> ends{false};
  std::thread decoder;
};

std::vector<json> stream_events(const std::string& body) {
  std::vector<json> events;
  size_t begin = 0;
  for (size_t end; (end = body.find("\n\n", begin)) != body.npos; begin = end + 2) {
    const std::string line = body.substr(begin, end - begin);
    if (line.starts_with(":")) continue;
    EXPECT_TRUE(line.starts_with("data: ")) << line;
    if (line == "data: [DONE]") {
      EXPECT_EQ(end + 2, body.size());
      return events;
    }
    events.push_back(json::parse(line.substr(6)));
  }
  ADD_FAILURE() << "no [DONE]";
  return events;
}

TEST(Serve, AnswersEveryFormOfPromptAsTheModelAlone) {
  Running s;
  const SamplerOptions drawn{.temperature = 0.9, .top_p = 0.95, .seed = 7};
  const std::string a = s.alone("hello", {}, 12), b = s.alone("the other prompt", {}, 12);
  json body = {{"prompt", "hello"}, {"max_tokens", 12}, {"temperature", 0}};
  json reply = s.completion(body);
  EXPECT_EQ(reply["choices"][0]["text"], a);
  EXPECT_EQ(reply["object"], "text_completion");
  EXPECT_EQ(reply["model"], "tiny");
  EXPECT_EQ(reply["usage"]["prompt_tokens"], 5);
  EXPECT_EQ(reply["usage"]["completion_tokens"], 12);
  EXPECT_EQ(reply["choices"][0]["finish_reason"], "length");
  body["prompt"] = {"hello", "the other prompt"};
  reply = s.completion(body);
  EXPECT_EQ(reply["choices"][0]["text"], a);
  EXPECT_EQ(reply["choices"][1]["text"], b);
  EXPECT_EQ(reply["choices"][1]["index"], 1);
  body["prompt"] = s.tokenizer->encode("hello");
  EXPECT_EQ(s.completion(body)["choices"][0]["text"], a);
  body["prompt"] = {s.tokenizer->encode("the other prompt"), s.tokenizer->encode("hello")};
  EXPECT_EQ(s.completion(body)["choices"][1]["text"], a);
  // Several answers to one prompt: seeds that follow each other.
  reply = s.completion({{"prompt", "hello"},
                        {"n", 2},
                        {"max_tokens", 12},
                        {"temperature", 0.9},
                        {"top_p", 0.95},
                        {"seed", 6}});
  EXPECT_EQ(reply["choices"][1]["text"], s.alone("hello", drawn, 12));
  EXPECT_NE(reply["choices"][0]["text"], reply["choices"][1]["text"]);
}

TEST(Serve, EchoGivesTheLogProbabilitiesOfThePrompt) {
  Running s;
  const std::vector<int32_t> ids = s.tokenizer->encode("log-probabilities, please");
  const auto cache = make_kv_cache({}, s.model.cache_shape());
  const std::vector<double> expected = score_in_one_pass(s.model, ids, 1, *cache);
  const json reply = s.completion({{"prompt", {ids, s.tokenizer->encode("b")}},
                                   {"max_tokens", 1},
                                   {"logprobs", 1},
                                   {"echo", true},
                                   {"temperature", 0},
                                   {"seed", 1234}});
  const json& lists = reply["choices"][0]["logprobs"];
  for (const char* list : {"tokens", "token_logprobs", "top_logprobs", "text_offset"})
    ASSERT_EQ(lists[list].size(), ids.size() + 1) << list;
  EXPECT_TRUE(lists["token_logprobs"][0].is_null());
  EXPECT_TRUE(lists["top_logprobs"][0].is_null());
  for (size_t i = 1; i < ids.size(); ++i)
    EXPECT_NEAR(lists["token_logprobs"][i].get<double>(), expected[i - 1], 1e-5);
  EXPECT_EQ(lists["tokens"][2], "g");
  EXPECT_EQ(lists["text_offset"][2], 2);
  // The token that was made is the likeliest one, and last.
  EXPECT_EQ(lists["top_logprobs"].back().size(), 1u);
  EXPECT_EQ(lists["top_logprobs"].back().front(), lists["token_logprobs"].back());
  EXPECT_TRUE(
      reply["choices"][0]["text"].get<std::string>().starts_with("log-probabilities, please"));
  // Scoring alone.
  const json scored = s.completion(
      {{"prompt", ids}, {"max_tokens", 0}, {"logprobs", 0}, {"echo", true}, {"temperature", 0}});
  EXPECT_EQ(scored["choices"][0]["logprobs"]["tokens"].size(), ids.size());
  EXPECT_EQ(scored["choices"][0]["text"], "log-probabilities, please");
}

TEST(Serve, StreamsSayWhatRepliesSay) {
  Running s;
  const json messages = {
      {{"role", "system"}, {"content", "Be brief."}},
      {{"role", "user"}, {"content", {{{"type", "text"}, {"text", "Which way?"}}}}}};
  json body = {{"messages", messages},    {"max_completion_tokens", 20},
               {"temperature", 0},        {"logprobs", true},
               {"top_logprobs", 2},       {"n", 2},
               {"presence_penalty", 0.0}, {"user", "me"}};
  const httplib::Response whole = s.post("/v1/chat/completions", body.dump());
  ASSERT_EQ(whole.status, 200) << whole.body;
  const json reply = json::parse(whole.body);
  EXPECT_EQ(reply["object"], "chat.completion");
  EXPECT_EQ(reply["choices"][0]["message"]["role"], "assistant");
  EXPECT_EQ(reply["choices"][0]["logprobs"]["content"].size(), 20u);
  EXPECT_EQ(reply["choices"][0]["logprobs"]["content"][3]["top_logprobs"].size(), 2u);
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  const httplib::Response streamed = s.post("/v1/chat/completions", body.dump());
  EXPECT_EQ(streamed.get_header_value("Content-Type"), "text/event-stream");
  const std::vector<json> events = stream_events(streamed.body);
  std::vector<std::string> texts(2), finish(2);
  std::vector<int> roles(2);
  for (const json& event : events) {
    EXPECT_EQ(event["object"], "chat.completion.chunk");
    for (const json& choice : event["choices"]) {
      const size_t i = choice["index"];
      EXPECT_EQ(finish[i], "") << "after the end";
      texts[i] += choice["delta"].value("content", "");
      if (choice["delta"].contains("role")) ++roles[i];
      if (!choice["finish_reason"].is_null()) finish[i] = choice["finish_reason"];
    }
  }
  for (size_t i : {0, 1}) {
    EXPECT_EQ(texts[i], reply["choices"][i]["message"]["content"]);
    EXPECT_EQ(finish[i], reply["choices"][i]["finish_reason"]);
    EXPECT_EQ(roles[i], 1);
  }
  EXPECT_EQ(events.back()["choices"], json::array());
  EXPECT_EQ(events.back()["usage"]["completion_tokens"], 40);
  // Completions, with the prompt.
  json plain = {{"prompt", "hello"}, {"echo", true},   {"max_tokens", 9},
                {"temperature", 0},  {"stream", true}, {"logprobs", 1}};
  std::string text;
  size_t tokens = 0;
  for (const json& event : stream_events(s.post("/v1/completions", plain.dump()).body)) {
    text += event["choices"][0]["text"];
    tokens += event["choices"][0]["logprobs"]["tokens"].size();
  }
  EXPECT_EQ(text, "hello" + s.alone("hello", {}, 9));
  EXPECT_EQ(tokens, 14u);
}

TEST(Serve, StopTextsEndAnAnswerAndAreNoPartOfIt) {
  Running s;
  const std::string text = s.alone("hello", {}, 30);
  // Two characters of one byte each, so that the stop text is made by two tokens.
  const auto ascii = [](char c) { return c > ' ' && c < 0x7f; };
  size_t at = 3;
  while (!ascii(text.at(at)) || !ascii(text.at(at + 1))) ++at;
  const std::string stop = text.substr(at, 2);
  const std::string before = text.substr(0, text.find(stop));
  for (const bool stream : {false, true}) {
    const json body = {{"prompt", "hello"},
                       {"max_tokens", 30},
                       {"temperature", 0},
                       {"stop", {"never there", stop}},
                       {"stream", stream}};
    const std::string reply = s.post("/v1/completions", body.dump()).body;
    std::string found;
    json last;
    for (const json& event : stream ? stream_events(reply) : std::vector{json::parse(reply)})
      found += event["choices"][0]["text"], last = event["choices"][0]["finish_reason"];
    EXPECT_EQ(found, before);
    EXPECT_EQ(last, "stop");
  }
}

TEST(Serve, RequestsTogetherSayWhatTheySayAlone) {
  Running s;
  std::vector<std::string> expected;
  for (int i = 0; i < 24; ++i)
    expected.push_back(s.alone(std::string(1 + i * 5, static_cast<char>('a' + i)) + "?",
                               {.temperature = i % 2 ? 0.8 : 0, .seed = 100u + i}, 5 + i));
  std::vector<std::thread> clients;
  std::atomic<int> right{0};
  for (int i = 0; i < 24; ++i)
    clients.emplace_back([&, i] {
      const json reply =
          s.completion({{"prompt", std::string(1 + i * 5, static_cast<char>('a' + i)) + "?"},
                        {"temperature", i % 2 ? 0.8 : 0},
                        {"seed", 100 + i},
                        {"max_tokens", 5 + i}});
      right += reply["choices"][0]["text"] == expected[static_cast<size_t>(i)] ? 1 : 0;
    });
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(right, 24);
}

TEST(Serve, ALaterTurnReadsItsOwnTokensAlone) {
  Running s;
  const auto ask = [&](const json& prompt) {
    return s.completion({{"prompt", prompt}, {"max_tokens", 10}, {"temperature", 0}});
  };
  const std::string first = "a first turn that is long enough to be worth a copy";
  const json a = ask(first);
  EXPECT_EQ(a["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
  const std::string second = first + " and what follows it";
  const json b = ask(second);
  EXPECT_EQ(b["usage"]["prompt_tokens_details"]["cached_tokens"], first.size());
  EXPECT_EQ(b["choices"][0]["text"], s.alone(second, {}, 10));
  // The same question again: all but its last token.
  const json c = ask(second);
  EXPECT_EQ(c["usage"]["prompt_tokens_details"]["cached_tokens"], second.size() - 1);
  EXPECT_EQ(c["choices"][0]["text"], b["choices"][0]["text"]);
}

TEST(Serve, RefusesWhatItCannotDo) {
  Running s;
  const struct {
    const char *body, *param;
  } rows[] = {
      {"", ""},
      {"{", ""},
      {"[]", ""},
      {"{\"prompt\": \"a\", \"prompt\": \"b\"}", ""},
      {"{\"prompt\": \"\xff\"}", ""},
      {"{\"model\": \"x\"}", "prompt"},
      {R"({"prompt": 3})", "prompt"},
      {R"({"prompt": []})", "prompt"},
      {R"({"prompt": ""})", "prompt"},
      {R"({"prompt": ["a", 3]})", "prompt"},
      {R"({"prompt": [1, 1000]})", "prompt"},
      {R"({"prompt": [-1]})", "prompt"},
      {R"({"prompt": [[]]})", "prompt"},
      {R"({"prompt": "a", "temperature": -1})", "temperature"},
      {R"({"prompt": "a", "temperature": "hot"})", "temperature"},
      {R"({"prompt": "a", "top_p": 0})", "top_p"},
      {R"({"prompt": "a", "n": 0})", "n"},
      {R"({"prompt": "a", "n": 1.5})", "n"},
      {R"({"prompt": "a", "max_tokens": 199})", nullptr},
      {R"({"prompt": "a", "max_tokens": 200})", "max_tokens"},
      {R"({"prompt": "a", "max_tokens": 18446744073709551615})", "max_tokens"},
      {R"({"prompt": "a", "stop": ["a", "b", "c", "d", "e"]})", "stop"},
      {R"({"prompt": "a", "stop": ""})", "stop"},
      {R"({"prompt": "a", "stop": [3]})", "stop[0]"},
      {R"({"prompt": "a", "logprobs": 21})", "logprobs"},
      {R"({"prompt": "a", "best_of": 3})", "best_of"},
      {R"({"prompt": "a", "suffix": "z"})", "suffix"},
      {R"({"prompt": "a", "presence_penalty": 0.5})", "presence_penalty"},
      {R"({"prompt": "a", "logit_bias": {"50256": -100}})", "logit_bias"},
      {R"({"prompt": "a", "stream_options": {}})", "stream_options"},
      {R"({"prompt": "a", "temprature": 1})", "temprature"},
  };
  for (const auto& row : rows) {
    const httplib::Response response = s.post("/v1/completions", row.body);
    if (!row.param) {
      EXPECT_EQ(response.status, 200) << response.body;
      continue;
    }
    EXPECT_EQ(response.status, 400) << row.body;
    const json error = json::parse(response.body)["error"];
    EXPECT_EQ(error["param"].is_null() ? "" : error["param"], row.param) << row.body;
    EXPECT_EQ(error["type"], "invalid_request_error");
  }
  const std::string long_prompt(250, 'x');
  const auto long_reply = s.post("/v1/completions", json{{"prompt", long_prompt}}.dump());
  EXPECT_EQ(long_reply.status, 400);
  EXPECT_NE(long_reply.body.find("250"), std::string::npos);
  EXPECT_NE(long_reply.body.find("200"), std::string::npos);
  EXPECT_EQ(json::parse(long_reply.body)["error"]["param"], "prompt");
  EXPECT_EQ(s.post("/v1/completions", std::string(5000, '[')).status, 400);

  const struct {
    const char *messages, *param;
  } chats[] = {
      {"[]", "messages"},
      {R"("hello")", "messages"},
      {R"([{"content": "a"}])", "messages[0].role"},
      {R"([{"role": "user"}])", "messages[0].content"},
      {R"([{"role": "tool", "content": "a"}])", "messages[0].role"},
      {R"([{"role": "assistant", "content": "a"}])", "messages[0].role"},
      {R"([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])",
       "messages[1].role"},
      {R"([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])",
       "messages[1].role"},
      {R"([{"role": "user", "content": [{"type": "image_url", "text": "a"}]}])",
       "messages[0].content[0].type"},
      {R"([{"role": "user", "content": "a", "weight": 1}])", "messages[0].weight"},
  };
  for (const auto& row : chats) {
    const auto response =
        s.post("/v1/chat/completions", concat("{\"messages\": ", row.messages, "}"));
    EXPECT_EQ(response.status, 400) << row.messages;
    EXPECT_EQ(json::parse(response.body)["error"]["param"], row.param) << response.body;
  }
  for (const char* field :
       {R"("tools": [{"type": "function"}])", R"("response_format": {"type": "json_object"})",
        R"("max_tokens": 3, "max_completion_tokens": 4)", R"("top_logprobs": 2)"})
    EXPECT_EQ(s.post("/v1/chat/completions",
                     concat(R"({"messages": [{"role": "user", "content": "a"}], )", field, "}"))
                  .status,
              400)
        << field;
}

TEST(Serve, RoutesKeysAndLimits) {
  Settings setup;
  setup.server.api_key = "secret";
  Running s(setup);
  httplib::Client client = s.client();
  EXPECT_EQ(client.Get("/health")->status, 200);
  EXPECT_NE(client.Get("/")->body.find("<!doctype html>"), std::string::npos);
  EXPECT_EQ(client.Get("/v1/models")->status, 401);
  EXPECT_EQ(client.Get("/v1/models", {{"Authorization", "Bearer secreT"}})->status, 401);
  EXPECT_EQ(client.Get("/v1/models", {{"Authorization", "secret"}})->status, 401);
  EXPECT_EQ(client.Get("/v1/models", {{"Authorization", "Basic secret"}})->status, 401);
  for (const char* scheme : {"Bearer secret", "bearer secret", "BEARER  secret"})
    EXPECT_EQ(client.Get("/v1/models", {{"Authorization", scheme}})->status, 200) << scheme;
  client.set_default_headers({{"Authorization", "Bearer secret"}});
  EXPECT_EQ(json::parse(client.Get("/v1/models")->body)["data"][0]["id"], "tiny");
  EXPECT_NE(client.Get("/metrics")->body.find("mullion_slots 3"), std::string::npos);
  const auto missing = client.Get("/etc/passwd");
  EXPECT_EQ(missing->status, 404);
  EXPECT_EQ(json::parse(missing->body)["error"]["code"], "not_found");
  EXPECT_EQ(client.Get("/../server.cc")->status, 404);
  const auto wrong = client.Get("/v1/completions");
  EXPECT_EQ(wrong->status, 405);
  EXPECT_EQ(wrong->get_header_value("Allow"), "POST");
  EXPECT_EQ(client.Get("/health", {{"Host", "evil.example"}})->status, 403);
  EXPECT_EQ(client.Get("/health", {{"Origin", "http://evil.example"}})->status, 403);
  const auto large = client.Post("/v1/completions", std::string(200'000, ' '), "application/json");
  ASSERT_TRUE(large);
  EXPECT_EQ(large->status, 413);
  // Whatever a body is called, it is read as JSON.
  EXPECT_EQ(client
                .Post("/v1/completions", R"({"prompt": "a", "max_tokens": 1})",
                      "application/x-www-form-urlencoded")
                ->status,
            200);
}

// The status and body of an answer to bytes that no client of a library sends.
std::string answer_to(int port, const std::string& bytes) {
  const int s = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(s, reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
  EXPECT_EQ(::send(s, bytes.data(), bytes.size(), MSG_NOSIGNAL), std::ssize(bytes));
  ::shutdown(s, SHUT_WR);
  std::string answer;
  char block[4096];
  for (ssize_t n; (n = ::recv(s, block, sizeof(block), 0)) > 0;)
    answer.append(block, static_cast<size_t>(n));
  ::close(s);
  return answer;
}

TEST(Serve, ALengthThatIsNoneIsNamed) {
  Running s;
  const std::string head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n";
  for (const auto& [lengths, word] :
       {std::pair{"Content-Length: -1\r\n", "'-1'"},
        {"Content-Length: abc\r\n", "'abc'"},
        {"Content-Length: 5, 5\r\n", "'5, 5'"},
        {"Content-Length: 99999999999999999999\r\n", "'99999999999999999999'"},
        {"Content-Length: 5\r\nContent-Length: 6\r\n", "more than once"},
        {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding"}}) {
    const std::string answer = answer_to(s.port, head + lengths + "\r\n{\"a\":1}");
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 400")) << lengths << answer;
    EXPECT_NE(answer.find(word), answer.npos) << lengths << answer;
    EXPECT_NE(answer.find("bad_length"), answer.npos) << lengths << answer;
  }
}

TEST(Serve, AContextBelowTheModelsIsTheLimit) {
  Settings setup;
  setup.server.context = 20;
  Running s(setup);
  EXPECT_EQ(json::parse(s.client().Get("/v1/models")->body)["data"][0]["max_model_len"], 20);
  const auto refused = s.post("/v1/completions", R"({"prompt": "hello", "max_tokens": 16})");
  EXPECT_EQ(refused.status, 400);
  EXPECT_NE(refused.body.find("the context is 20 tokens"), std::string::npos) << refused.body;
  EXPECT_EQ(s.completion({{"prompt", "hello"}, {"max_tokens", 15}})["usage"]["total_tokens"], 20);
}

TEST(Serve, AFullQueueAndClientsThatLeave) {
  Settings setup;
  setup.scheduler.parallel = 1;
  setup.scheduler.queue = 2;
  Running s(setup);
  // A stream whose client goes away after its first piece.
  std::atomic<bool> first{false}, leave{false};
  std::thread leaver([&] {
    httplib::Request request;
    request.method = "POST";
    request.path = "/v1/completions";
    request.body = R"({"prompt": "a", "max_tokens": 190, "stream": true})";
    request.content_receiver = [&](const char*, size_t, uint64_t, uint64_t) {
      first = true;
      return !leave.load();
    };
    httplib::Response response;
    httplib::Error error;
    httplib::Client client = s.client();
    client.send(request, response, error);
  });
  while (!first) std::this_thread::yield();
  const auto full = s.post("/v1/completions", R"({"prompt": ["a", "b", "c"], "max_tokens": 1})");
  EXPECT_EQ(full.status, 400);  // more than the queue ever holds
  leave = true;
  leaver.join();
  for (int i = 0; i < 1000 && s.scheduler.metrics().running > 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(s.scheduler.metrics().running, 0);
  EXPECT_EQ(s.post("/v1/completions", R"({"prompt": "a", "max_tokens": 3})").status, 200);
}

TEST(Serve, AQueueThatIsFullSaysSo) {
  Running s;
  SchedulerOptions options{.parallel = 1, .queue = 2};
  Scheduler scheduler(s.model, *s.tokenizer, {256}, options);
  const Job job{.prompt = {1, 2}, .max_tokens = 3};
  const auto a = scheduler.submit({job, job});
  EXPECT_THROW(scheduler.submit({job}), ApiError);
  scheduler.turn();  // one has a slot
  const auto b = scheduler.submit({job});
  while (!scheduler.idle()) scheduler.turn();
  for (const auto& exchange : {a, b})
    while (exchange->open()) ASSERT_TRUE(exchange->take(std::chrono::milliseconds(0)));
}

TEST(Serve, CachesWithABudgetStartAnew) {
  Settings setup;
  setup.scheduler.cache = {.kind = KvKind::h2o, .budget_tokens = 12};
  Running s(setup);
  GenerateOptions how{.max_tokens = 20,
                      .sampling = {},
                      .stop_ids = {256},
                      .cache = setup.scheduler.cache,
                      .on_token = {}};
  const std::string prompt = "a prompt that is longer than the budget";
  const std::vector<int32_t> ids = generate(s.model, s.tokenizer->encode(prompt), how).ids;
  const json expected = json::parse(
      json(s.tokenizer->decode(ids)).dump(-1, ' ', false, json::error_handler_t::replace));
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(
        s.completion(
            {{"prompt", prompt}, {"max_tokens", 20}, {"temperature", 0}})["choices"][0]["text"],
        expected);
  EXPECT_EQ(s.post("/v1/completions", R"({"prompt": "a", "echo": true, "logprobs": 1})").status,
            400);
}

TEST(Serve, WithoutATemplateChatsAreRefused) {
  Settings setup;
  setup.chat = false;
  Running s(setup);
  const auto refused =
      s.post("/v1/chat/completions", R"({"messages": [{"role": "user", "content": "a"}]})");
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(json::parse(refused.body)["error"]["code"], "no_chat_template");
}

class ServeProgram : public test::Programs {
 protected:
  ServeProgram() : Programs({"chat_llama"}) {}
  // The port in the line that the program prints.
  int port() const {
    for (int i = 0; i < 2000; ++i) {
      const std::string out = test::contents(at("out"));
      if (const size_t at = out.find("127.0.0.1:"); at != out.npos && out.back() == '\n')
        return std::stoi(out.substr(at + 10));
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return 0;
  }
};

TEST_F(ServeProgram, ASignalFinishesWhatRuns) {
  test::write_tiny_llama(at("m"));
  test::Answer answer;
  std::thread program(
      [&] { answer = run("chat_llama serve -m m --port 0 > out & echo $! > pid; wait $!"); });
  httplib::Client client("127.0.0.1", port());
  client.set_read_timeout(60);
  std::string text;
  bool told = false;
  httplib::Request request;
  request.method = "POST";
  request.path = "/v1/completions";
  request.body = R"({"prompt": "ba=", "max_tokens": 55, "stream": true})";
  request.content_receiver = [&](const char* data, size_t size, uint64_t, uint64_t) {
    text.append(data, size);
    if (!std::exchange(told, true)) ::kill(std::stoi(test::contents(at("pid"))), SIGTERM);
    return true;
  };
  httplib::Response response;
  httplib::Error error;
  EXPECT_TRUE(client.send(request, response, error)) << httplib::to_string(error);
  EXPECT_TRUE(text.ends_with("data: [DONE]\n\n")) << text;
  program.join();
  EXPECT_EQ(answer.code, 0) << answer.log;
}

TEST_F(ServeProgram, APortInUseIsNamed) {
  test::write_tiny_llama(at("m"));
  Running other;
  refused("chat_llama serve -m m --port " + std::to_string(other.port), 2,
          {std::to_string(other.port), "in use", "--port 0"});
  // Before the model is read, which may take long.
  refused("chat_llama serve -m no_model --port " + std::to_string(other.port), 2,
          {std::to_string(other.port), "in use"});
  refused(
      "timeout -s TERM 60 chat_llama serve -m m --port 0 --ctx-size 16 --dry-run && "
      "echo done >&2",
      0, {"slots of 16 tokens of the model's 64", "done"});
  refused("chat_llama serve -m m --host no.such.host.invalid", 2, {"no.such.host.invalid"});
  refused("chat_llama serve -m m --port 70000", 2, {"--port", "70000"});
  refused("chat_llama serve -m m --api-key ''", 2, {"--api-key"});
  refused("chat_llama serve -m m --template llama3", 2, {"llama3", "<|start_header_id|>"});
}

}  // namespace
}  // namespace mullion::server
#endif
