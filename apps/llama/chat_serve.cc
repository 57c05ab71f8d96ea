// chat_llama serve: answers over HTTP as OpenAI's API does.
#include <algorithm>

#include "apps/llama/cache_options.h"
#include "apps/llama/chat_verbs.h"
#include "apps/llama/generation_options.h"
#include "apps/llama/model_options.h"
#include "apps/program/log.h"
#include "apps/program/signals.h"
#include "data/chat_template.h"
#ifdef MULLION_HAVE_HTTPLIB
#include "apps/llama/server/server.h"
#endif

namespace mullion {

OptionTable serve_table() {
  OptionTable table(
      "chat_llama serve",
      "Answers over HTTP as OpenAI's API does, and has a page to chat with. A request without "
      "temperature and top_p gets OpenAI's values, 1 and 1");
  add_model_options(table);
  table.add("chat.template", "--template", "auto", "of chats; auto: the tokenizer's own")
      .one_of(chat_format_names());
  table.add("server.host", "--host", "127.0.0.1",
            "address to listen at; 0.0.0.0 is every interface");
  table.add("server.port", "--port", 8000, "0: one that is free").range(0, 65535);
  table.add_optional<std::string>("server.api_key", "--api-key",
                                  "key that requests to /v1 and /metrics must bring");
  table.add("server.parallel", "--parallel", 4, "answers that are decoded together").range(1, 1024);
  table.add("server.queue", "--queue", 256, "answers that wait at most; further ones get 503")
      .at_least(1);
  table.add("server.time_limit", "--time-limit", 600, "seconds for a request, waiting included")
      .at_least(1);
  table.add("server.max_body", "--max-body", 8 << 20, "bytes of a request's body").at_least(1);
  table.add("server.context", "--ctx-size", 0, "context to serve, at most; 0: the model's");
  table.add("run.seed", "-s,--seed", 42, "requests without a seed take this, the next, ...");
  add_cache_options(table);
  return table;
}

#ifdef MULLION_HAVE_HTTPLIB
namespace {

server::ServerOptions server_options(const Options& options) {
  server::ServerOptions result;
  result.host = options.get<std::string>("server.host");
  result.port = options.get<int>("server.port");
  if (options.has("server.api_key")) {
    result.api_key = options.get<std::string>("server.api_key");
    CHECK_AS(Fault::usage, !result.api_key.empty(), "--api-key: an empty key");
  }
  result.max_body = options.get<uint64_t>("server.max_body");
  result.seed = options.seed();
  return result;
}

// Decodes until a signal; then finishes what runs, and at a second one ends at once. Decoding is in
// this thread, whose number of threads for the kernels is the one that was asked for.
Outcome serve_until_stopped(server::Server& http, server::Scheduler& scheduler) {
  constexpr std::chrono::milliseconds kPatience{50};
  catch_stop_signals({"TERM", "INT"});
  while (!stop_requested())
    if (!scheduler.turn()) scheduler.wait(kPatience);
  log_info(stop_reason(), ": finishing ", http.active(), " requests; a second signal ends at once");
  clear_stop_request();  // the next one counts anew
  http.drain();
  bool forced = false;
  while (http.active() > 0 && !forced) {
    if (!scheduler.turn()) scheduler.wait(kPatience);
    forced = stop_requested();
  }
  if (forced) scheduler.fail_all("the server was ended");
  http.stop();
  const server::Metrics& m = scheduler.metrics();
  return {JsonObject()
              .set("prompt_tokens", m.prompt_tokens.load())
              .set("reused_tokens", m.reused_tokens.load())
              .set("tokens", m.generated_tokens.load())
              .set("cancelled", m.cancelled.load()),
          forced ? kExitInterrupted : 0};
}

}  // namespace

Outcome serve_text(const Options& options) {
  server::ServerOptions where = server_options(options);
  // Before the model, whose reading takes longer.
  server::Place place = server::take_place(where.host, where.port, where.connections);
  const auto asked = options.get<int64_t>("server.context");
  const OpenedModel opened = open_model(options, asked);
  const int64_t own = opened.model->context();
  where.context = asked > 0 ? std::min(asked, own) : own;
  // As it was asked for: of a run, whose base has another name, the run.
  const auto asked_for = options.get<std::filesystem::path>("model.path");
  where.model = std::filesystem::weakly_canonical(asked_for).filename().string();
  const auto tokenizer = open_tokenizer_of_rows(options, opened.model->vocabulary());
  std::optional<ChatTemplate> chat;
  std::string no_template;
  try {
    chat.emplace(options.get<std::string>("chat.template"), *tokenizer);
    log_info("template: ", chat->describe());
  } catch (const Error& error) {
    if (options.get<std::string>("chat.template") != "auto") throw;
    no_template = error.what();
    log_warning(no_template, "; /v1/chat/completions and the page are refused");
  }
  server::SchedulerOptions how;
  how.parallel = options.get<int64_t>("server.parallel");
  how.queue = options.get<int64_t>("server.queue");
  how.time_limit = std::chrono::seconds(options.get<int64_t>("server.time_limit"));
  how.cache = cache_options(options);
  const std::vector<int32_t> ends =
      chat ? stop_ids(opened, *tokenizer, *chat) : stop_ids(opened, *tokenizer);
  server::Scheduler scheduler(*opened.model, *tokenizer, ends, how);
  log_info("KV cache: ", describe(how.cache), "; ", how.parallel, " slots of ", where.context,
           " tokens", where.context < own ? concat(" of the model's ", own) : "");
  if (options.dry_run) return JsonObject().set("model", where.model).set("chat", chat.has_value());
  const int port = place.port;
  server::Server http(std::move(place), where, scheduler, *opened.model, *tokenizer, chat,
                      no_template);
  http.listen();
  const bool v6 = where.host.find(':') != where.host.npos;
  print_result(options,
               concat("listening on http://", v6 ? "[" : "", where.host, v6 ? "]" : "", ":", port));
  if (!server::is_loopback(where.host) && where.api_key.empty())
    log_warning("--host ", where.host,
                ": whoever reaches this address may use the model; --api-key asks for a key");
  return serve_until_stopped(http, scheduler);
}
#else
Outcome serve_text(const Options&) {
  throw Error("this program was built without cpp-httplib, which serve needs", Fault::usage,
              "install libcpp-httplib-dev and build anew");
}
#endif

}  // namespace mullion
