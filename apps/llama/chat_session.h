// A conversation with a model whose cache lives through it: a turn costs its own tokens.
//
// The cache has seen the ids of a beginning of the text that the template writes for the turns so
// far; a new turn is the rest of that text, encoded and fed as one block. The model's own tokens
// stay as it wrote them. Where the text is no continuation (a turn was taken back, the system's
// turn is another, the template trims an answer), the cache goes back to the last place that both
// texts share: a full cache forgets what follows; one that evicts goes on from a copy of before or
// after the last turn, or sees the conversation again, exchange by exchange.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/chat_template.h"
#include "models/llama/generate.h"

namespace mullion {

class ChatSession {
 public:
  // Those given by reference must outlive it. `context`: as of Generation.
  ChatSession(const LanguageModel& model, const Tokenizer& tokenizer, const ChatTemplate& chat,
              const KvCacheOptions& cache, int64_t context = 0);

  // The system's turn; nothing: the template's own rule.
  void set_system(std::optional<std::string> text) { system_ = std::move(text); }
  const std::optional<std::string>& system() const { return system_; }
  // No turns; the system's stays.
  void begin_anew();
  // Another cache, which sees the turns so far with the next one.
  void set_cache(const KvCacheOptions& cache);

  // A user's turn, seen by the model and ready to be answered; false: `go_on` said no between two
  // pieces of it, and the turn is none. Error(usage) where it does not fit the context, and any
  // other Error, leave the turns as they were.
  bool ask(const std::string& text, const std::function<bool()>& go_on = {});
  // The last turn of the user again, without its answer. Error(usage) where there is none.
  void ask_again();
  // Takes back the last turn of the user with its answer. Error(usage) where there is none.
  void take_back();
  // The ids to follow, all of which the next turn comes after; then end_answer() with what the
  // assistant's turn says.
  Generated answer(GenerateOptions how);
  void end_answer(const std::string& text);

  // The system's first, where it is set.
  std::vector<Turn> turns() const;
  // The text of all turns by the template, and its ids: those seen, and those yet to be.
  struct Plan {
    std::string text;
    std::vector<int32_t> ids;
    size_t cut_ids = 0, cut_bytes = 0;  // where what has been seen or picked ends to be of use
  };
  Plan plan() const;
  // Tokens of the conversation as it stands that the cache has seen, and those that may follow: the
  // cache forgets a turn that was taken back when the next one says how far.
  int64_t seen_of_turns() const;
  int64_t room() const;
  // Tokens of turns that went through the model, all together.
  int64_t fed() const { return fed_; }
  // Of them, those in the places of tokens that were taken back or changed.
  int64_t again() const { return again_; }
  int64_t context() const { return session_->context(); }
  // Of the token to follow.
  const std::vector<float>& logits() const { return session_->logits(row_); }
  const KvCache& cache() const { return session_->cache(row_); }
  const KvCacheOptions& cache_options() const { return session_->cache_options(); }

 private:
  // A place at which the ids may be cut: between what was encoded alone, and around each token that
  // the model wrote.
  struct Cut {
    size_t ids, bytes;
  };
  // Of a cache that evicts, before and after the last turn.
  struct Copy {
    Generation::Row row;
    size_t ids;
  };
  bool catch_up(const std::function<bool()>& go_on);
  bool feed(std::span<const int32_t> ids, const std::function<bool()>& go_on);
  size_t go_back(size_t shared);
  bool evicts() const { return cache_options().is_bounded(); }
  size_t seen() const { return static_cast<size_t>(cache().position()); }

  const LanguageModel& model_;
  const Tokenizer& tokenizer_;
  const ChatTemplate& chat_;
  int64_t context_;
  std::unique_ptr<Generation> session_;
  Generation::Row row_;
  std::optional<std::string> system_;
  std::vector<Turn> turns_;   // without the system's
  std::string text_;          // what ids_ spell
  std::vector<int32_t> ids_;  // seen, but for the last one of an answer that was cut short
  std::vector<Cut> cuts_;     // ascending
  std::vector<Copy> copies_;  // ascending
  int64_t fed_ = 0, again_ = 0;
};

}  // namespace mullion
