// Ends a text that comes in pieces at the first of several strings, which is no part of it. In time
// linear in the text.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace mullion {

class StopStrings {
 public:
  // Error(usage) for an empty string, at which every text would end. No strings: nothing ends.
  explicit StopStrings(std::vector<std::string> stops);
  // What can be shown of the text now: a part that may turn out to be the beginning of a stop
  // string is held back.
  std::string push(std::string_view piece);
  bool found() const { return found_; }  // further pieces are dropped
  // What was held back, where the text has ended otherwise.
  std::string finish();

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool found_ = false;
};

}  // namespace mullion
