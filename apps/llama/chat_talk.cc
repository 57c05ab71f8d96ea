// chat_llama chat: a conversation on a terminal, or by a script on standard input.
#include <unistd.h>

#include "apps/llama/cache_options.h"
#include "apps/llama/chat_terminal.h"
#include "apps/llama/chat_verbs.h"
#include "apps/llama/prompt_writer.h"
#include "apps/program/log.h"
#include "apps/program/signals.h"

namespace mullion {

OptionTable chat_table() {
  OptionTable table("chat_llama chat",
                    "A conversation: a line of standard input is a turn, /help lists the commands");
  add_model_options(table);
  add_prompt_options(table, "auto");
  table.add_optional<std::string>("prompt.text", "-p,--prompt", "the first turn");
  table.add("generate.tokens", "-n,--n-predict,--max-tokens", 512,
            "tokens of an answer at most; 0: as many as the context holds");
  table.add("generate.context", "--ctx-size", 0,
            "tokens at most that the model sees; 0: its context");
  add_sampling_options(table, {.temperature = 0.6, .top_p = 0.9, .seed = kAnySeed});
  add_stop_option(table);
  add_cache_options(table);
  return table;
}

Outcome chat(const Options& options) {
  const KvCacheOptions cache = cache_options(options);
  const auto context = options.get<int64_t>("generate.context");
  const OpenedModel opened = open_model(options, context);
  const auto tokenizer = open_tokenizer_of_rows(options, opened.model->vocabulary());
  const ChatTemplate chat_template(options.get<std::string>("prompt.template"), *tokenizer);
  log_info("template   ", chat_template.describe());
  if (cache.is_bounded()) log_info("KV cache   ", describe(cache));
  ChatSession session(*opened.model, *tokenizer, chat_template, cache, context);
  if (options.has("prompt.system")) session.set_system(options.get<std::string>("prompt.system"));
  const OptionTable table = chat_table();
  ChatTerminal terminal(options, table, session, *tokenizer, chat_template,
                        stop_ids(opened, *tokenizer, chat_template));
  if (options.dry_run) return JsonObject().set("template", name_of(chat_template.format()));
  log_info("/help lists the commands; Ctrl-C stops an answer");
  catch_stop_signals();
  if (options.has("prompt.text")) {
    if (::isatty(STDIN_FILENO) == 1)
      print_text(options, "> " + options.get<std::string>("prompt.text") + "\n");
    terminal.turn(options.get<std::string>("prompt.text"));
  }
  return terminal.run();
}

}  // namespace mullion
