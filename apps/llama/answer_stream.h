// An answer as it comes, token by token: whole characters, ended at a stop string, without the
// space that a template has in front of it.
#pragma once
#include <string>
#include <vector>

#include "data/stop_strings.h"
#include "data/text_stream.h"

namespace mullion {

class AnswerStream {
 public:
  AnswerStream(const Tokenizer& tokenizer, const DecodeOptions& decode,
               std::vector<std::string> stops, std::string lead = "")
      : stream_(tokenizer, decode), stops_(std::move(stops)), lead_(std::move(lead)) {}

  // What can be shown now; may be empty.
  std::string push(int32_t id) { return show(stops_.push(stream_.push(id))); }
  // The rest, once.
  std::string finish() {
    std::string rest = stops_.push(stream_.finish());
    return show(rest + stops_.finish());
  }
  bool at_stop_string() const { return stops_.found(); }
  // All that was shown.
  const std::string& text() const { return text_; }

 private:
  std::string show(std::string piece) {
    if (text_.empty() && !piece.empty() && !lead_.empty()) {
      if (piece.starts_with(lead_)) piece.erase(0, lead_.size());
      lead_.clear();
    }
    text_ += piece;
    return piece;
  }
  TextStream stream_;
  StopStrings stops_;
  std::string lead_, text_;
};

}  // namespace mullion
