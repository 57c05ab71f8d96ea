// chat_llama serve: what it refuses, and the words that it says so with.
#ifdef MULLION_HAVE_HTTPLIB
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/apps/running_server.h"

namespace mullion::server {
namespace {

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

TEST(Serve, WithoutATemplateChatsAreRefused) {
  Settings setup;
  setup.chat = false;
  Running s(setup);
  const auto refused =
      s.post("/v1/chat/completions", R"({"messages": [{"role": "user", "content": "a"}]})");
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(json::parse(refused.body)["error"]["code"], "no_chat_template");
}

}  // namespace
}  // namespace mullion::server
#endif
