// Routes over cpp-httplib; a handler hands over jobs and waits for their events.
#include "apps/llama/server/server.h"

#include <ctime>

#include "apps/llama/server/api_error.h"
#include "apps/llama/server/guard.h"
#include "apps/llama/server/page.h"
#include "apps/llama/server/reply.h"
#include "apps/program/log.h"

namespace mullion::server {
namespace {

using Json = nlohmann::ordered_json;
using std::chrono::milliseconds;

constexpr milliseconds kPatience{100};          // between two looks at the client
constexpr std::chrono::seconds kHeartbeat{10};  // between two comments in a silent stream

const char* kJson = "application/json";

void set_error(httplib::Response& response, const ApiError& error) {
  response.status = error.status;
  response.set_content(error.json(), kJson);
  if (error.status == 503) response.set_header("Retry-After", "1");
  if (error.status == 401) response.set_header("WWW-Authenticate", "Bearer");
}

void require_known(const std::vector<int32_t>& prompt, int64_t vocabulary) {
  for (const int32_t id : prompt)
    if (id >= vocabulary)
      throw ApiError(400,
                     concat("prompt: token ", id, " is outside the vocabulary of ", vocabulary),
                     "prompt", "unknown_token");
}

ApiError failed(const Event& event) {
  return {event.status, event.error, "", event.status == 504 ? "time_limit" : ""};
}

}  // namespace

Server::Server(Place place, const ServerOptions& options, Scheduler& scheduler,
               const LanguageModel& model, const Tokenizer& tokenizer,
               const std::optional<ChatTemplate>& chat, std::string no_template)
    : options_(options),
      scheduler_(scheduler),
      model_(model),
      tokenizer_(tokenizer),
      chat_(chat),
      no_template_(std::move(no_template)),
      created_(std::time(nullptr)),
      place_(std::move(place)),
      http_(*place_.http) {
  if (options_.context == 0) options_.context = model.context();
  routes();
}

Server::~Server() { stop(); }

void Server::listen() {
  listener_ = std::thread([this] { http_.listen_after_bind(); });
}

void Server::stop() {
  http_.close_idle();
  if (!listener_.joinable()) return;
  while (!http_.is_running()) std::this_thread::sleep_for(milliseconds(1));
  http_.stop();
  listener_.join();
}

void Server::routes() {
  http_.set_pre_routing_handler([this](const Request& request, Response& response) {
    const auto refused = refusal(request, options_.host, options_.api_key, draining_);
    if (!refused) return httplib::Server::HandlerResponse::Unhandled;
    if (refused->status == 405) response.set_header("Allow", method_of(request.path));
    set_error(response, *refused);
    this_connection().close_after_reply();  // its body has not been read
    return httplib::Server::HandlerResponse::Handled;
  });
  http_.set_error_handler([](const Request&, Response& response) {
    if (response.body.empty())
      set_error(response, {response.status, concat("HTTP error ", response.status)});
    this_connection().close_after_reply();
  });
  http_.set_exception_handler(
      [](const Request&, Response& response, const std::exception_ptr& error) {
        try {
          std::rethrow_exception(error);
        } catch (const std::exception& what) {
          set_error(response, {500, what.what()});
        } catch (...) {
          set_error(response, {500, "unknown error"});
        }
      });
  http_.set_logger([this](const Request& request, const Response& response) {
    scheduler_.metrics().count_request(method_of(request.path) ? request.path : "other",
                                       response.status);
    log_verbose(request.remote_addr, " ", request.method, " ", request.path.substr(0, 200), " ",
                response.status);
  });
  http_.Get("/", [](const Request&, Response& response) {
    // The page loads nothing from elsewhere, and nothing may embed it.
    response.set_header("Content-Security-Policy",
                        "default-src 'none'; script-src 'unsafe-inline'; style-src "
                        "'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; "
                        "form-action 'none'; frame-ancestors 'none'");
    response.set_header("X-Content-Type-Options", "nosniff");
    response.set_header("Cache-Control", "no-cache");
    response.set_content(page(), "text/html; charset=utf-8");
  });
  http_.Get("/health", [this](const Request&, Response& response) {
    response.status = draining_ ? 503 : 200;
    response.set_content(draining_ ? R"({"status":"stopping"})" : R"({"status":"ok"})", kJson);
  });
  http_.Get("/metrics", [this](const Request&, Response& response) {
    response.set_content(scheduler_.metrics().text(), "text/plain; version=0.0.4");
  });
  http_.Get("/v1/models", [this](const Request&, Response& response) {
    const Json model = {{"id", options_.model},
                        {"object", "model"},
                        {"created", created_},
                        {"owned_by", "mullion"},
                        {"max_model_len", options_.context},
                        {"vocabulary", model_.vocabulary()},
                        {"chat", chat_.has_value()}};
    response.set_content(text_of({{"object", "list"}, {"data", Json::array({model})}}), kJson);
  });
  post("/v1/completions",
       [this](const std::string& body, Response& response) { complete(body, response); });
  post("/v1/chat/completions",
       [this](const std::string& body, Response& response) { chat(body, response); });
}

// Reads the body up to the limit, whatever its type is called, and unpacked if it is packed.
void Server::post(const std::string& path, const Body& answer) {
  http_.Post(path, [this, answer](const Request& request, Response& response,
                                  const httplib::ContentReader& reader) {
    ++active_;
    try {
      const auto too_large = [&](const std::string& size) {
        this_connection().close_after_reply();
        return ApiError(413,
                        concat("the body has ", size, " bytes, the limit is ", options_.max_body),
                        "", "body_too_large");
      };
      const std::string length = request.get_header_value("Content-Length");
      if (!length.empty() && std::strtoull(length.c_str(), nullptr, 10) > options_.max_body)
        throw too_large(length);
      if (request.is_multipart_form_data()) {
        this_connection().close_after_reply();
        throw ApiError(400, "Content-Type: expected application/json, found a form", "",
                       "invalid_json");
      }
      std::string body;
      const bool whole = reader([&](const char* data, size_t size) {
        if (body.size() + size > options_.max_body) return false;
        body.append(data, size);
        return true;
      });
      if (!whole) {
        if (body.size() + (1 << 16) > options_.max_body)
          throw too_large(concat("more than ", options_.max_body));
        this_connection().close_after_reply();
        throw ApiError(400, "the body ended early, or did not come in time", "", "cut_body");
      }
      answer(body, response);
    } catch (const ApiError& error) {
      set_error(response, error);
    } catch (const std::exception& error) {
      set_error(response, {500, error.what()});
    }
    if (!response.content_provider_) --active_;  // else where the stream ends
  });
}

ReplyFacts Server::facts(const char* prefix) {
  return {&tokenizer_, options_.model, concat(prefix, created_, "-", ++requests_),
          std::time(nullptr)};
}

Job Server::job(const Wanted& wanted, const char* field, std::vector<int32_t> prompt,
                int64_t answer, std::optional<int64_t> max_tokens) {
  const int64_t context = options_.context;
  const auto length = std::ssize(prompt);
  require_known(prompt, model_.vocabulary());
  const bool rolls = scheduler_.options().cache.positions == KvPositions::rolled;
  const int64_t most = rolls ? KvCache::kNoEnd : context - length;
  const bool too_long = length > context - (rolls || max_tokens == 0 ? 0 : 1);
  if (too_long || max_tokens.value_or(1) > most)
    throw ApiError(400,
                   concat("the context is ", context, " tokens, but the prompt has ", length,
                          max_tokens ? concat(" and the answer may have ", *max_tokens) : ""),
                   too_long ? field : "max_tokens", "context_length_exceeded");
  Job job{.prompt = std::move(prompt),
          .max_tokens = max_tokens.value_or(std::max<int64_t>(1, context - length)),
          .sampling = wanted.sampling,
          .stops = wanted.stops,
          .top = wanted.top};
  job.sampling.seed = (wanted.has_seed ? wanted.sampling.seed : options_.seed + seeds_++) +
                      static_cast<uint64_t>(answer);
  return job;
}

void Server::complete(const std::string& body, Response& response) {
  CompletionRequest request = parse_completion(body);
  if (request.echo && request.top >= 0 && scheduler_.options().cache.is_bounded())
    throw ApiError(400, "echo with logprobs: only by a server with --kv full", "echo",
                   "unsupported_field");
  if (std::ssize(request.prompts) * request.n > scheduler_.options().queue)
    throw ApiError(400,
                   concat("prompt: ", request.prompts.size(), " prompts with ", request.n,
                          " answers each, but the queue holds ", scheduler_.options().queue),
                   "prompt", "too_many");
  std::vector<Job> jobs;
  for (size_t i = 0; i < request.prompts.size(); ++i) {
    Prompt& prompt = request.prompts[i];
    if (prompt.ids.empty()) {
      // A BOS that the text has already is not put there again.
      const bool has_bos =
          tokenizer_.bos() && prompt.text.starts_with(tokenizer_.token_text(*tokenizer_.bos()));
      prompt.ids = tokenizer_.encode(
          prompt.text, {.bos = tokenizer_.add_bos() && !has_bos, .parse_specials = true});
      if (prompt.ids.empty())
        throw ApiError(400, "prompt: an empty text, and the tokenizer puts no BOS before it",
                       "prompt", "empty_prompt");
    } else {
      require_known(prompt.ids, tokenizer_.vocab_size());
      prompt.text = tokenizer_.decode(prompt.ids, {.specials = true});
    }
    for (int64_t n = 0; n < request.n; ++n) {
      jobs.push_back(job(request, "prompt", prompt.ids, n, request.max_tokens));
      jobs.back().score_prompt = request.echo && request.top >= 0;
    }
  }
  reply(request, std::move(jobs), completion_reply(facts("cmpl-"), request), response);
}

void Server::chat(const std::string& body, Response& response) {
  if (!chat_) throw ApiError(400, no_template_, "messages", "no_chat_template");
  const ChatRequest request = parse_chat(body);
  std::vector<int32_t> ids;
  try {
    ids = tokenizer_.encode(chat_->prompt(request.turns), chat_->encode_options());
  } catch (const Error& error) {
    throw ApiError(400, error.what(), "messages", "invalid_messages");
  }
  std::vector<Job> jobs;
  for (int64_t n = 0; n < request.n; ++n) {
    jobs.push_back(job(request, "messages", ids, n, request.max_tokens));
    jobs.back().lead = chat_->answer_lead();
  }
  reply(request, std::move(jobs), chat_reply(facts("chatcmpl-"), request, std::ssize(ids)),
        response);
}

void Server::reply(const Wanted& wanted, std::vector<Job> jobs, std::unique_ptr<Reply> reply,
                   Response& response) {
  const std::shared_ptr<Exchange> exchange = scheduler_.submit(std::move(jobs));
  if (wanted.stream) return stream(exchange, std::move(reply), wanted.include_usage, response);
  while (exchange->open()) {
    const std::optional<Event> event = exchange->take(kPatience);
    if (!event) {
      if (!this_connection().client_left()) continue;
      exchange->cancel();
      throw ApiError(499, "the client has left");
    }
    if (event->finish == Finish::failed) {
      exchange->cancel();
      throw failed(*event);
    }
    reply->add(*event);
  }
  response.set_content(reply->whole(), kJson);
}

void Server::stream(const std::shared_ptr<Exchange>& exchange, const std::shared_ptr<Reply>& reply,
                    bool include_usage, Response& response) {
  response.set_header("Cache-Control", "no-cache");
  response.set_header("X-Accel-Buffering", "no");  // a proxy in between hands on what comes
  auto heard =
      std::make_shared<std::chrono::steady_clock::time_point>(std::chrono::steady_clock::now());
  response.set_chunked_content_provider(
      "text/event-stream",
      [exchange, reply, include_usage, heard](size_t, httplib::DataSink& sink) {
        const auto send = [&](const std::string& text) {
          *heard = std::chrono::steady_clock::now();
          return sink.write(text.data(), text.size());
        };
        const std::optional<Event> event = exchange->take(kPatience);
        if (!event) {
          const bool silent = std::chrono::steady_clock::now() - *heard > kHeartbeat;
          return !this_connection().client_left() && (!silent || send(": waiting\n\n"));
        }
        if (event->finish == Finish::failed) {
          exchange->cancel();
          const bool sent = send("data: " + failed(*event).json() + "\n\n");
          sink.done();
          return sent;
        }
        const std::string chunk = reply->chunk(*event);
        if (!chunk.empty() && !send("data: " + chunk + "\n\n")) return false;
        if (exchange->open()) return true;
        std::string last = "data: [DONE]\n\n";
        if (include_usage) last = "data: " + reply->usage_chunk() + "\n\n" + last;
        const bool sent = send(last);
        sink.done();
        return sent;
      },
      [this, exchange](bool) {
        exchange->cancel();  // of no effect where all is done
        --active_;
      });
}

}  // namespace mullion::server
