// A server of a small model in this process, and a client of it.
#pragma once
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "apps/llama/server/api_error.h"
#include "apps/llama/server/server.h"
#include "tests/apps/byte_tokenizer.h"
#include "tests/apps/tiny_llama.h"

namespace mullion::server {

using nlohmann::json;

inline constexpr int64_t kContext = 200;

inline LlamaConfig served_config() {
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

class Running {
 public:
  explicit Running(const Settings& setup = {})
      : model(served_config()),
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
  std::string alone(const std::string& prompt, const SamplerOptions& sampling, int64_t tokens,
                    const KvCacheOptions& cache = {}) {
    GenerateOptions how{.max_tokens = tokens,
                        .sampling = sampling,
                        .stop_ids = {256},
                        .cache = cache,
                        .on_token = {}};
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

}  // namespace mullion::server
