// chat_llama serve: its answers against the same model alone, and its ends.
#ifdef MULLION_HAVE_HTTPLIB
#include <csignal>

#include "tests/apps/programs.h"
#include "tests/apps/running_server.h"

namespace mullion::server {
namespace {

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

TEST(Serve, CachesWithABudgetStartAnew) {
  Settings setup;
  setup.scheduler.cache = {.kind = "h2o", .budget_tokens = 12};
  Running s(setup);
  const std::string prompt = "a prompt that is longer than the budget";
  const std::string expected = s.alone(prompt, {}, 20, setup.scheduler.cache);
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(
        s.completion(
            {{"prompt", prompt}, {"max_tokens", 20}, {"temperature", 0}})["choices"][0]["text"],
        expected);
  EXPECT_EQ(s.post("/v1/completions", R"({"prompt": "a", "echo": true, "logprobs": 1})").status,
            400);
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
