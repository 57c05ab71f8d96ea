// The person's side of a conversation: turns and commands, line by line.
#pragma once
#include <chrono>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "apps/llama/chat_session.h"
#include "apps/llama/generation_options.h"
#include "apps/llama/line_reader.h"
#include "apps/program/main.h"

namespace mullion {

class ChatTerminal {
 public:
  // `table` is that of `options`; those given by reference must outlive it.
  ChatTerminal(const Options& options, const OptionTable& table, ChatSession& session,
               const Tokenizer& tokenizer, const ChatTemplate& chat, std::vector<int32_t> stop_ids);

  // Turns and commands of standard input until its end, /quit, a second Ctrl-C at the prompt (130),
  // or another signal (75).
  Outcome run();
  // A user's turn and its answer. An Error about the turn is printed and ends nothing.
  void turn(const std::string& text);

 private:
  struct Command {
    const char *name, *arguments, *help;
    void (ChatTerminal::*run)(const std::string& rest);
  };
  static const std::vector<Command>& commands();
  void help(const std::string&);
  void begin_anew(const std::string&);
  void system(const std::string& text);
  void set(const std::string& rest);
  void status(const std::string&);
  void history(const std::string&);
  void undo(const std::string&);
  void retry(const std::string&);
  void save(const std::string& file);
  void debug(const std::string&);
  void kv(const std::string& rest);
  void quit(const std::string&) { ends_ = true; }

  LineReader::Got read_turn(std::string& text);
  void line(const std::string& text);
  void answer(std::chrono::duration<double> prefill, int64_t fed);
  void say(const std::string& text) const { print_text(options_, text); }
  JsonObject result() const;

  Options options_;
  const OptionTable& table_;
  ChatSession& session_;
  const Tokenizer& tokenizer_;
  const ChatTemplate& chat_;
  std::vector<int32_t> stop_ids_;
  SamplerOptions sampling_;
  LineReader input_;
  std::vector<JsonObject> answers_;
  std::set<std::filesystem::path> saved_;
  int64_t refused_ = 0;  // turns
  bool at_terminal_, ends_ = false;
};

}  // namespace mullion
