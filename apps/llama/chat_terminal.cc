// Reading turns, carrying them out, and the lines that say how fast an answer was and what it took.
#include "apps/llama/chat_terminal.h"

#include <unistd.h>

#include <algorithm>

#include "apps/llama/answer_stream.h"
#include "apps/llama/cache_options.h"
#include "apps/options/nearest.h"
#include "apps/program/log.h"
#include "apps/program/signals.h"
#include "data/text_encoding.h"

namespace mullion {
namespace {

using Clock = std::chrono::steady_clock;

double rate(int64_t tokens, std::chrono::duration<double> time) {
  return static_cast<double>(tokens) / std::max(time.count(), 1e-9);
}

void tell(const Error& error) {
  log_line(LogLevel::quiet, concat("error: ", error.what()));
  if (!error.hint().empty()) log_line(LogLevel::quiet, "  try: " + error.hint());
}

}  // namespace

ChatTerminal::ChatTerminal(const Options& options, const OptionTable& table, ChatSession& session,
                           const Tokenizer& tokenizer, const ChatTemplate& chat,
                           std::vector<int32_t> stop_ids)
    : options_(options),
      table_(table),
      session_(session),
      tokenizer_(tokenizer),
      chat_(chat),
      stop_ids_(std::move(stop_ids)),
      sampling_(sampling_options(options)),
      at_terminal_(::isatty(STDIN_FILENO) == 1) {}

// A line, or several that end with a backslash but for the last. Error(bad_file) for one that is no
// UTF-8, after which the next can be read.
LineReader::Got ChatTerminal::read_turn(std::string& text) {
  text.clear();
  if (at_terminal_) say("> ");
  std::string line;
  const uint64_t first = input_.line_number() + 1;
  for (bool goes_on = true; goes_on;) {
    const LineReader::Got got = input_.read(line);
    if (got == LineReader::Got::end && !text.empty()) {
      log_warning("the input ends after a backslash: the turn is what came before it");
      break;
    }
    if (got != LineReader::Got::line) return got;
    goes_on = line.ends_with('\\');
    if (goes_on) line.back() = '\n';
    text += line;
    if (goes_on && at_terminal_) say(". ");
  }
  const uint64_t last = input_.line_number();
  text = decode_utf8(std::move(text), last > first
                                          ? concat("standard input: lines ", first, " to ", last)
                                          : concat("standard input: line ", first));
  return LineReader::Got::line;
}

Outcome ChatTerminal::run() {
  std::string text;
  bool asked_to_end = false;  // a first Ctrl-C at this prompt
  while (!ends_) {
    LineReader::Got got{};
    try {
      got = read_turn(text);
    } catch (const Error& error) {  // as a turn that does not fit: it is none, and the next counts
      ++refused_;
      tell(error);
      continue;
    }
    if (got == LineReader::Got::end) {
      if (at_terminal_) say("\n");
      break;
    }
    if (got == LineReader::Got::signal) {
      if (stop_reason() != "SIGINT") return {result(), kExitStopped};
      clear_stop_request();
      if (std::exchange(asked_to_end, true)) return {result(), kExitInterrupted};
      say("\n");
      log_info("Ctrl-C again ends the chat; so does /quit");
      continue;
    }
    asked_to_end = false;
    line(text);
    if (stop_requested() && stop_reason() != "SIGINT") return {result(), kExitStopped};
    clear_stop_request();
  }
  return result();
}

void ChatTerminal::line(const std::string& text) {
  if (text.find_first_not_of(" \t") == text.npos) return;
  if (text[0] != '/') return turn(text);
  if (text.starts_with("//")) return turn(text.substr(1));
  const size_t end = std::min(text.find(' '), text.size());
  const std::string name = text.substr(0, end);
  const size_t begin = text.find_first_not_of(' ', end);
  std::vector<std::string> names;
  try {
    for (const Command& command : commands()) {
      if (name == command.name) {
        const std::string rest = begin == text.npos ? "" : text.substr(begin);
        if (command.arguments[0] == '\0' && !rest.empty())
          throw Error(concat(name, ": takes nothing after it, not '", rest, "'"), Fault::usage);
        return (this->*command.run)(rest);
      }
      names.emplace_back(command.name);
    }
    const std::string nearest = nearest_name(name, names);
    throw Error(name + ": no such command", Fault::usage,
                nearest.empty() ? "/help lists them; a turn that begins with / is written with //"
                                : nearest);
  } catch (const Error& error) {
    if (error.fault() == Fault::memory) throw;
    tell(error);
  }
}

void ChatTerminal::turn(const std::string& text) {
  const auto begin = Clock::now();
  const int64_t fed = session_.fed(), again = session_.again();
  const bool begins = session_.cache().position() == 0;
  try {
    if (!session_.ask(text, [] { return !stop_requested(); })) {
      log_info("stopped before the model had seen the turn, which is none now");
      return;
    }
  } catch (const Error& error) {
    if (error.fault() == Fault::memory) throw;
    ++refused_;
    return tell(error);
  }
  if (session_.again() > again)
    log_verbose(session_.again() - again, " tokens in the places of others");
  const KvCacheOptions& cache = session_.cache_options();
  if (begins && cache.budget_percent > 0 &&
      std::ssize(session_.turns()) <= (session_.system() ? 2 : 1))
    log_warning("the cache keeps ", kv_shares(cache, session_.fed() - fed).total(),
                " tokens a head, ", cache.budget_percent,
                " % of this first turn, however long the "
                "conversation grows; --kv-budget N or /kv KIND N says a number");
  answer(Clock::now() - begin, session_.fed() - fed);
}

void ChatTerminal::answer(std::chrono::duration<double> prefill, int64_t fed) {
  GenerateOptions how;
  how.max_tokens = options_.get<int64_t>("generate.tokens");
  how.sampling = sampling_;
  how.sampling.seed += answers_.size();  // each answer has random numbers of its own
  how.stop_ids = stop_ids_;
  AnswerStream stream(tokenizer_, {.strip_space_prefix = false}, stop_strings(options_),
                      chat_.answer_lead());
  how.on_token = [&](int32_t id) {
    say(stream.push(id));
    return !stop_requested() && !stream.at_stop_string();
  };
  const auto begin = Clock::now();
  const Generated generated = session_.answer(how);
  const auto time = Clock::now() - begin;
  say(stream.finish() + "\n");
  session_.end_answer(stream.text());
  const std::string stop = stream.at_stop_string() ? "stop" : generated.stop;
  if (stop == "stopped") log_info("(stopped)");
  if (stop == "length")
    log_info("(cut after ", generated.ids.size(), " tokens; /set n-predict N for longer answers)");
  if (stop == "context")
    log_warning("the context of ", session_.context(),
                " tokens is full and the answer cut: /new begins anew, /undo takes the last turn "
                "back; with /kv sink 512 rolled the text has no end");
  const auto tokens = std::ssize(generated.ids);
  answers_.push_back(JsonObject()
                         .set("text", stream.text())
                         .set("stop", stop)
                         .set("fed", fed)
                         .set("tokens", tokens)
                         .set("prefill_tok_s", rate(fed, prefill))
                         .set("decode_tok_s", rate(tokens, time)));
}

JsonObject ChatTerminal::result() const {
  std::vector<JsonObject> messages;
  for (const Turn& turn : session_.turns())
    messages.push_back(JsonObject().set("role", name_of(turn.role)).set("content", turn.content));
  return JsonObject()
      .set("template", name_of(chat_.format()))
      .set("messages", messages)
      .set("answers", answers_)
      .set("fed", session_.fed())
      .set("again", session_.again())
      .set("refused", refused_)
      .set("cache", cache_json(session_.cache_options())
                        .set("held", session_.cache().held())
                        .set("bytes", session_.cache().bytes()));
}

}  // namespace mullion
