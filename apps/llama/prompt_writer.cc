// A text or a conversation to ids, and the ids that end its answer.
#include "apps/llama/prompt_writer.h"

#include "apps/llama/generation_options.h"
#include "tensor/check.h"

namespace mullion {

PromptWriter::PromptWriter(const std::string& name, std::optional<std::string> system,
                           const Tokenizer& tokenizer)
    : tokenizer_(tokenizer), system_(std::move(system)), bos_(tokenizer.add_bos()) {
  if (name != "none") chat_.emplace(name, tokenizer);
  if (is_plain() && system_)
    throw Error("--system: --template none writes texts as they are and no system's before them",
                Fault::usage, "--template auto");
}

std::string PromptWriter::one(const std::string& text) const {
  return is_plain() ? text : all({{Role::user, text, "", "prompt"}});
}

std::string PromptWriter::all(std::vector<Turn> turns) const {
  CHECK(chat_, "a conversation without a template");
  if (system_ && (turns.empty() || turns[0].role != Role::system))
    turns.insert(turns.begin(), {Role::system, *system_, "", "system"});
  return chat_->prompt(turns);
}

std::vector<int32_t> PromptWriter::encode(const std::string& written) const {
  return tokenizer_.encode(written, chat_ ? chat_->encode_options()
                                          : EncodeOptions{.bos = bos_, .parse_specials = true});
}

std::vector<int32_t> PromptWriter::stop_ids(const OpenedModel& model) const {
  return chat_ ? mullion::stop_ids(model, tokenizer_, *chat_)
               : mullion::stop_ids(model, tokenizer_);
}

void add_prompt_options(OptionTable& table, const std::string& fallback) {
  table
      .add("prompt.template", "--template", fallback,
           "how a conversation is written; auto: by the tokenizer's own template; none: the texts "
           "as they are")
      .one_of(chat_format_names());
  table.add_optional<std::string>("prompt.system", "--system",
                                  "the system's turn (unset: as the template has by default)");
}

PromptWriter prompt_writer(const Options& options, const Tokenizer& tokenizer) {
  std::optional<std::string> system;
  if (options.has("prompt.system")) system = options.get<std::string>("prompt.system");
  return {options.get<std::string>("prompt.template"), system, tokenizer};
}

}  // namespace mullion
