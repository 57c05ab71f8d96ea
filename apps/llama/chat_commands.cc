// The commands of a chat.
#include <algorithm>
#include <sstream>

#include "apps/llama/cache_options.h"
#include "apps/llama/chat_terminal.h"
#include "apps/options/nearest.h"
#include "apps/program/log.h"
#include "tensor/io/file.h"
#include "tensor/words.h"

namespace mullion {
namespace {

// "temp" for "--temp": what /set calls an option; "" where it sets none.
std::string setting(const OptionSpec& spec) {
  const bool is_one = spec.key.starts_with("generate.") && spec.key != "generate.context";
  return is_one || spec.key == "run.seed" ? shown_flag(spec).substr(2) : "";
}

std::string padded(std::string text, size_t width) {
  text.resize(std::max(width, text.size() + 1), ' ');
  return text;
}

}  // namespace

const std::vector<ChatTerminal::Command>& ChatTerminal::commands() {
  static const std::vector<Command> list = {
      {"/help", "", "these lines", &ChatTerminal::help},
      {"/new", "", "a new conversation, under the same system text", &ChatTerminal::begin_anew},
      {"/system", "[TEXT]", "the system text, or another from the next turn on",
       &ChatTerminal::system},
      {"/set", "[NAME VALUE]", "the settings, or one of them anew", &ChatTerminal::set},
      {"/status", "", "tokens, context and cache", &ChatTerminal::status},
      {"/history", "", "the turns so far", &ChatTerminal::history},
      {"/undo", "", "takes the last turn back, with its answer", &ChatTerminal::undo},
      {"/retry", "", "another answer to the last turn", &ChatTerminal::retry},
      {"/save", "FILE", "writes the conversation as a row of messages", &ChatTerminal::save},
      {"/debug", "", "the text that the template writes, and its ids", &ChatTerminal::debug},
      {"/kv", "[KIND [BUDGET [rolled]]]", "the cache, or another from the next turn on",
       &ChatTerminal::kv},
      {"/quit", "", "ends the chat", &ChatTerminal::quit}};
  return list;
}

void ChatTerminal::help(const std::string& /*rest*/) {
  for (const Command& c : commands())
    say(padded(concat(c.name, " ", c.arguments), 32) + c.help + "\n");
  say("A backslash at the end of a line continues it on the next; // begins a turn with a slash.\n"
      "Ctrl-C stops the answer; twice at the prompt, or the end of the input, ends the chat.\n");
}

void ChatTerminal::begin_anew(const std::string& /*rest*/) {
  session_.begin_anew();
  log_info("a new conversation");
}

void ChatTerminal::system(const std::string& text) {
  if (text.empty()) {
    if (session_.system())
      say(*session_.system() + "\n");
    else
      log_info("none is set: ", chat_.describe());
    return;
  }
  session_.set_system(text);
  if (std::ssize(session_.turns()) > 1)
    log_info("the next turn: the model sees the conversation again, under this text");
}

void ChatTerminal::set(const std::string& rest) {
  const size_t end = std::min(rest.find(' '), rest.size());
  const std::string name = rest.substr(0, end);
  const size_t begin = rest.find_first_not_of(' ', end);
  std::vector<std::string> names;
  for (const OptionSpec& spec : table_.specs()) {
    const std::string known = setting(spec);
    if (known.empty()) continue;
    if (rest.empty()) {
      const bool is_set = options_.has(spec.key);
      say(padded(known, 16) + (is_set ? toml_text(options_.value(spec.key)) : "(unset)") + "  " +
          spec.help + "\n");
      continue;
    }
    names.push_back(known);
    const std::vector<std::string> flags = flag_names(spec);
    if (std::none_of(flags.begin(), flags.end(), [&](const std::string& flag) {
          return flag.substr(flag.find_first_not_of('-')) == name;
        }))
      continue;
    CHECK_AS(Fault::usage, begin != rest.npos, "/set ", name, ": needs a value");
    const std::string text = rest.substr(begin);
    OptionValue value = spec.is_whole ? OptionValue(std::vector<std::string>{text})
                                      : parse_option(spec.kind, {text}, "/set " + name);
    check_limits(value, spec.limits, "/set " + name);
    Options changed = options_;
    changed.set(spec.key, std::move(value), "/set");
    sampling_ = sampling_options(changed);
    options_ = std::move(changed);
    return;
  }
  if (rest.empty()) return;
  const std::string nearest = nearest_name(name, names);
  throw Error(concat("/set: no setting ", name), Fault::usage,
              nearest.empty() ? "/set lists them" : "/set " + nearest);
}

void ChatTerminal::status(const std::string& /*rest*/) {
  const auto turns = session_.turns();
  const auto users =
      std::count_if(turns.begin(), turns.end(), [](const Turn& t) { return t.role == Role::user; });
  const KvCache& cache = session_.cache();
  say(concat(
      "turns      ", users, "\ncontext    ", session_.seen_of_turns(), " of ", session_.context(),
      " tokens seen",
      session_.room() >= KvCache::kNoEnd ? "; no end" : concat(", room for ", session_.room()),
      "\ncache      ", describe(session_.cache_options()), "; ", cache.held(), " tokens held, ",
      cache.bytes(), " bytes\nfed        ", session_.fed(), " tokens of turns, ", session_.again(),
      " of them in the places of others\ntemplate   ", chat_.describe(), "\n"));
  if (!answers_.empty()) log_verbose("last answer: ", answers_.back().text());
}

void ChatTerminal::history(const std::string& /*rest*/) {
  for (const Turn& turn : session_.turns())
    say(concat(name_of(turn.role), ": ", turn.content, "\n"));
}

void ChatTerminal::undo(const std::string& /*rest*/) {
  session_.take_back();
  const auto turns = session_.turns();
  const auto last = std::find_if(turns.rbegin(), turns.rend(),
                                 [](const Turn& t) { return t.role == Role::user; });
  log_info("taken back; ",
           last == turns.rend() ? "no turn is left" : "the last turn is now: " + last->content);
}

void ChatTerminal::retry(const std::string& /*rest*/) {
  if (sampling_.temperature == 0)
    log_info("temp is 0: the likeliest tokens are the same; /set temp 0.6 draws others");
  const auto begin = std::chrono::steady_clock::now();
  const int64_t fed = session_.fed();
  session_.ask_again();
  answer(std::chrono::steady_clock::now() - begin, session_.fed() - fed);
}

void ChatTerminal::save(const std::string& file) {
  CHECK_AS(Fault::usage, !file.empty(), "/save: needs a file's name");
  const std::filesystem::path path = file;
  CHECK_AS(Fault::usage, saved_.contains(path) || !std::filesystem::exists(path), "/save: ", file,
           " is there already");
  std::vector<JsonObject> messages;
  for (const Turn& turn : session_.turns())
    messages.push_back(JsonObject().set("role", name_of(turn.role)).set("content", turn.content));
  CHECK_AS(Fault::usage, !messages.empty(), "/save: there is no turn yet");
  write_whole_file(path, JsonObject().set("messages", messages).text() + "\n");
  saved_.insert(path);
  log_info(file, ": ", messages.size(), " messages");
}

void ChatTerminal::debug(const std::string& /*rest*/) {
  const ChatSession::Plan plan = session_.plan();
  say(plan.text + "\n");
  say(concat("ids  ", joined(plan.ids, " "), "\n"));
  log_info(plan.ids.size(), " tokens, of which the cache has seen ",
           std::min<int64_t>(std::ssize(plan.ids), session_.cache().position()));
}

void ChatTerminal::kv(const std::string& rest) {
  if (rest.empty()) {
    const KvCache& cache = session_.cache();
    say(concat(describe(session_.cache_options()), ": ", cache.position(), " tokens seen, ",
               cache.held(), " held, ", cache.bytes(), " bytes\n"));
    return;
  }
  std::istringstream words(rest);
  std::string kind, budget, positions, more;
  words >> kind >> budget >> positions >> more;
  const std::vector<std::string> kinds = kv_kind_names();
  CHECK_AS(Fault::usage, std::find(kinds.begin(), kinds.end(), kind) != kinds.end(), "/kv ", kind,
           ": not one of ", joined(kinds));
  CHECK_AS(Fault::usage, more.empty() && (positions.empty() || positions == "rolled"),
           "/kv: after KIND and BUDGET comes rolled or nothing, not ", positions, " ", more);
  KvCacheOptions cache;
  cache.kind = kind;
  CHECK_AS(Fault::usage, cache.is_bounded() || budget.empty(), "/kv ", kind,
           " keeps every token and has no budget");
  if (!positions.empty()) cache.positions = KvPositions::rolled;
  try {
    if (!budget.empty()) parse_kv_budget(budget, cache);
    validate(cache);
  } catch (const Error& error) {
    throw error.in("/kv " + rest);
  }
  session_.set_cache(cache);
  log_info("KV cache: ", describe(cache),
           session_.turns().empty() ? ""
                                    : "; the model sees the conversation again with the "
                                      "next turn",
           cache.budget_percent > 0 ? "; the percentage is of its first exchange" : "");
}

}  // namespace mullion
