// Instruction data as rows of ids: each conversation by its template, with the assistant's turns as
// targets, cut to the context.
#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/chat_template.h"
#include "data/conversation.h"
#include "data/text_rows.h"

namespace mullion {

// What becomes of a row that is longer than the context.
enum class Truncate : uint8_t {
  middle,  // the source keeps its first and its last half, the last answer stays whole; an answer
           // that is longer than the context is cut on the right, without its source
  right,   // the first tokens stay
  skip,    // left out
};

struct InstructionOptions {
  ConversationOptions reading = {};
  int64_t context = 0;
  Truncate truncate = Truncate::middle;
  bool mask_prompt = true;           // false: every token but the first is a target
  bool last_turn = false;            // the last answer alone is a target
  double max_without_target = 0.05;  // of the rows
};

struct InstructionCounts {
  uint64_t rows = 0;  // of the files, those left out for what they are included
  uint64_t bad = 0;   // left out by ConversationOptions::drop_bad
  uint64_t kept = 0;
  uint64_t truncated = 0;       // whose source was cut in the middle, or whose end on the right
  uint64_t answers_cut = 0;     // that lost a part of an answer
  uint64_t too_long = 0;        // left out by Truncate::skip
  uint64_t without_target = 0;  // left out, for nothing was left to learn
  uint64_t tokens = 0, targets = 0;  // of the rows kept
};

// What was done to a row: "FILE: line 3: 9412 tokens: ..."
struct RowNote {
  std::string where, what;
  int64_t tokens;  // before it was cut
};

class InstructionRows : public TextRows {
 public:
  // Reads all files and encodes all rows. Error(bad_file) for rows that cannot be used (read
  // conversation.h), where more than max_without_target of the rows have no target, and where none
  // is left. `progress`, where given, hears of each row and may end the reading by false.
  InstructionRows(const std::vector<std::string>& files, const InstructionOptions& options,
                  const ChatTemplate& chat, const Tokenizer& tokenizer,
                  const std::function<bool(uint64_t rows)>& progress = {});

  int64_t size() const override { return std::ssize(begin_) - 1; }
  int64_t tokens() const override { return std::ssize(ids_); }
  int64_t length(int64_t row) const override;
  TextRow read(int64_t row) const override;
  std::string fingerprint() const override;

  const std::string& where(int64_t row) const { return where_[static_cast<size_t>(row)]; }
  // Lengths before rows were cut or left out.
  const std::vector<int64_t>& full_lengths() const { return full_lengths_; }
  const InstructionCounts& counts() const { return counts_; }
  const std::vector<ConversationFile>& files() const { return files_; }
  const std::vector<RowNote>& notes() const { return notes_; }  // of rows cut or left out

 private:
  void take(const Conversation& conversation);
  void note(const Conversation& conversation, size_t tokens, const std::string& what);
  void refuse_if_empty(const std::vector<std::string>& files) const;

  const InstructionOptions options_;
  const ChatTemplate& chat_;
  const Tokenizer& tokenizer_;
  std::vector<int32_t> ids_;
  std::vector<uint8_t> learned_;
  std::vector<size_t> begin_{0};  // of each row among ids_, and their end
  std::vector<std::string> where_;
  std::vector<int64_t> full_lengths_;
  InstructionCounts counts_;
  std::vector<ConversationFile> files_;
  std::vector<RowNote> notes_;
};

}  // namespace mullion
