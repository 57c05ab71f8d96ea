// The HTTP side of chat_llama serve: routes, limits, and the way from a body to jobs and back.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "apps/llama/server/place.h"
#include "apps/llama/server/request.h"
#include "apps/llama/server/scheduler.h"
#include "data/chat_template.h"

namespace mullion::server {

struct ServerOptions {
  std::string host = "127.0.0.1";
  int port = 8000;           // 0: a free one
  std::string api_key = {};  // "": none is asked for
  std::string model = {};    // its name in replies
  uint64_t max_body = 8 << 20;
  uint64_t seed = 42;   // requests without one take seed, seed + 1, ...
  int64_t context = 0;  // tokens of a prompt and its answer; 0: the model's
  ConnectionLimits connections = {};
};

class Reply;
struct ReplyFacts;

class Server {
 public:
  // What answers; all must outlive it. Without a template, /v1/chat/completions is refused with
  // `no_template`.
  Server(Place place, const ServerOptions& options, Scheduler& scheduler,
         const LanguageModel& model, const Tokenizer& tokenizer,
         const std::optional<ChatTemplate>& chat, std::string no_template);
  ~Server();

  void listen();
  // Answers 503 to what is new from now on, and /health says so.
  void drain() { draining_ = true; }
  int64_t active() const { return active_; }  // requests that are being answered
  void stop();

 private:
  using Request = httplib::Request;
  using Response = httplib::Response;
  using Body = std::function<void(const std::string& body, Response& response)>;

  void post(const std::string& path, const Body& answer);
  void complete(const std::string& body, Response& response);
  void chat(const std::string& body, Response& response);
  void reply(const Wanted& wanted, std::vector<Job> jobs, std::unique_ptr<Reply> reply,
             Response& response);
  void stream(const std::shared_ptr<Exchange>& exchange, const std::shared_ptr<Reply>& reply,
              bool include_usage, Response& response);
  // `field`: that the prompt came in, for errors.
  Job job(const Wanted& wanted, const char* field, std::vector<int32_t> prompt, int64_t answer,
          std::optional<int64_t> max_tokens);
  ReplyFacts facts(const char* prefix);
  void routes();

  ServerOptions options_;
  Scheduler& scheduler_;
  const LanguageModel& model_;
  const Tokenizer& tokenizer_;
  const std::optional<ChatTemplate>& chat_;
  std::string no_template_;
  int64_t created_;
  Place place_;
  BoundedServer& http_;
  std::thread listener_;
  std::atomic<bool> draining_{false};
  std::atomic<int64_t> active_{0};
  std::atomic<uint64_t> requests_{0}, seeds_{0};
};

}  // namespace mullion::server
