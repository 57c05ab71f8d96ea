// Prompts as a program writes them for a model: texts as they are, or conversations by --template.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "apps/llama/model_options.h"
#include "data/chat_template.h"

namespace mullion {

class PromptWriter {
 public:
  // `name`: of --template; none: texts as they are. `system`: of --system; Error(usage) for one
  // that no template would write. The tokenizer must outlive it.
  PromptWriter(const std::string& name, std::optional<std::string> system,
               const Tokenizer& tokenizer);

  bool is_plain() const { return !chat_; }
  const ChatTemplate* chat() const { return chat_ ? &*chat_ : nullptr; }
  // BOS in front of plain texts; as the tokenizer says unless set.
  void set_bos(bool bos) { bos_ = bos; }
  const std::optional<std::string>& system() const { return system_; }
  // A user's text, after the system's.
  std::string one(const std::string& text) const;
  // A conversation that ends with the user's turn; the system's is put in front where it has none.
  std::string all(std::vector<Turn> turns) const;
  std::vector<int32_t> encode(const std::string& written) const;
  // The ids that end an answer: those of tokenizer, model and template, each once.
  std::vector<int32_t> stop_ids(const OpenedModel& model) const;
  // What an answer begins with that is no part of it: a space, or nothing.
  std::string answer_lead() const { return chat_ ? chat_->answer_lead() : ""; }

 private:
  const Tokenizer& tokenizer_;
  std::optional<ChatTemplate> chat_;
  std::optional<std::string> system_;
  bool bos_;
};

// --template, with `fallback`, and --system; and what they say.
void add_prompt_options(OptionTable& table, const std::string& fallback);
PromptWriter prompt_writer(const Options& options, const Tokenizer& tokenizer);

}  // namespace mullion
