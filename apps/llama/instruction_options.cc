// The options, the files read with progress, and what of them was cut or left out, in words.
#include "apps/llama/instruction_options.h"

#include <algorithm>

#include "apps/llama/text_data.h"
#include "apps/llama/token_rows.h"
#include "apps/program/log.h"
#include "apps/program/progress.h"
#include "apps/program/signals.h"
#include "tensor/check.h"
#include "tensor/words.h"

namespace mullion {

void tell_unused(const ConversationFile& file) {
  if (file.not_used.empty()) return;
  log_warning(file.file, ": fields not used: ", joined(file.not_used, ", ", [](const auto& field) {
                return concat(field.first, " (", field.second, " rows)");
              }));
}

namespace {
constexpr size_t kShownNotes = 5;

void tell(const InstructionRows& rows, const ChatTemplate& chat, const Tokenizer& tokenizer) {
  log_info("template   ", chat.describe());
  for (const ConversationFile& file : rows.files()) {
    log_info("rows       ", file.file, ": ", file.rows, " of shape ", file.shape);
    tell_unused(file);
    if (file.bad > 0)
      log_warning(file.file, ": ", file.bad, " bad rows left out; the first: ", file.first_bad);
  }
  log_info("first ids  ", first_tokens(tokenizer, rows.read(0).ids));
  const InstructionCounts& c = rows.counts();
  log_info("learned    ", c.targets, " of ", c.tokens, " tokens in ", c.kept, " of ", c.rows,
           " rows");
  if (c.truncated + c.answers_cut + c.too_long + c.without_target == 0) return;
  log_warning(c.truncated, " rows cut, ", c.answers_cut, " answers cut, ", c.too_long,
              " rows left out as too long, ", c.without_target, " with nothing left to learn");
  for (size_t i = 0; i < std::min(kShownNotes, rows.notes().size()); ++i) {
    const RowNote& note = rows.notes()[i];
    log_warning(note.where, ": ", note.tokens, " tokens: ", note.what);
  }
}
}  // namespace

void add_instruction_options(OptionTable& table) {
  table
      .add("data.template", "--template", std::string("auto"),
           "how conversations are written; auto: by the tokenizer's own template")
      .one_of(chat_format_names());
  table
      .add("data.truncate", "--truncate", std::string("middle"),
           "rows longer than the context: middle cuts the source and never the last answer, right "
           "cuts "
           "the end, skip leaves them out")
      .one_of({"middle", "right", "skip"});
  table.add("data.mask_prompt", "--mask-prompt", true,
            "learn the assistant's turns alone, not what they answer");
  table
      .add("data.train_on", "--train-on", std::string("all"),
           "the assistant's turns to learn: all, or the last of each row")
      .one_of({"all", "last"})
      .only_with("data.mask_prompt");
  table
      .add("data.bad_rows", "--bad-rows", std::string("refuse"),
           "rows that are no conversation: refuse the file, or drop and count them")
      .one_of({"refuse", "drop"});
}

InstructionOptions instruction_options(const Options& options, int64_t context) {
  InstructionOptions result;
  result.context = context;
  const auto truncate = options.get<std::string>("data.truncate");
  result.truncate = truncate == "middle"  ? Truncate::middle
                    : truncate == "right" ? Truncate::right
                                          : Truncate::skip;
  result.mask_prompt = options.get<bool>("data.mask_prompt");
  result.last_turn = options.get<std::string>("data.train_on") == "last";
  result.reading.encoding = text_encoding(options.get<std::string>("data.encoding"));
  result.reading.drop_bad = options.get<std::string>("data.bad_rows") == "drop";
  return result;
}

std::unique_ptr<InstructionRows> open_instructions(const Options& options,
                                                   const std::vector<std::string>& files,
                                                   int64_t context, const ChatTemplate& chat,
                                                   const Tokenizer& tokenizer) {
  warn_of_repeats({files.begin(), files.end()});
  catch_stop_signals();
  Progress progress("encode", 0);
  auto rows = std::make_unique<InstructionRows>(
      files, instruction_options(options, context), chat, tokenizer, [&](uint64_t count) {
        progress.update(static_cast<int64_t>(count), "rows");
        CHECK(!stop_requested(), "stopped by ", stop_reason(), "; nothing was written");
        return true;
      });
  progress.finish();
  tell(*rows, chat, tokenizer);
  return rows;
}

JsonObject describe(const InstructionRows& rows, const ChatTemplate& chat) {
  std::vector<JsonObject> files;
  for (const ConversationFile& file : rows.files()) {
    JsonObject unused;
    for (const auto& [field, count] : file.not_used) unused.set(field, count);
    files.push_back(JsonObject()
                        .set("file", file.file)
                        .set("shape", file.shape)
                        .set("rows", file.rows)
                        .set("bad", file.bad)
                        .set("not_used", unused));
  }
  const InstructionCounts& c = rows.counts();
  return JsonObject()
      .set("template", name_of(chat.format()))
      .set("files", files)
      .set("rows", c.rows)
      .set("kept", c.kept)
      .set("bad", c.bad)
      .set("truncated", c.truncated)
      .set("answers_cut", c.answers_cut)
      .set("too_long", c.too_long)
      .set("without_target", c.without_target)
      .set("tokens", c.tokens)
      .set("targets", c.targets)
      .set("masked", c.tokens - c.targets);
}

}  // namespace mullion
