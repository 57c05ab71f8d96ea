// The published scripts' steps, one function each, in their order, so that they can be compared.
#include "apps/llama/evaluation/exam_answers.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <set>
#include <vector>

#include "apps/llama/evaluation/text_metrics.h"
#include "data/utf8.h"
#include "tensor/words.h"

namespace mullion {
namespace {

bool is_choice(char c) { return c >= 'A' && c <= 'D'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string choices_in(const std::string& text) {
  std::set<char> letters;
  for (const char c : text)
    if (is_choice(c)) letters.insert(c);
  return {letters.begin(), letters.end()};
}

void replace_all(std::string& text, std::string_view what, std::string_view with) {
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size())
    text.replace(at, what.size(), with);
}

std::optional<double> number_of(const std::string& text) {
  const std::vector<std::string> words = words_of(text);
  if (words.size() != 1) return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(words[0].c_str(), &end);
  return *end == 0 ? std::optional(value) : std::nullopt;
}

// All that is a space to a regular expression as a blank.
std::string with_blanks(const std::string& text) {
  std::string out;
  for (const char32_t c : code_points(text)) append_utf8(out, is_white_space(c) ? U' ' : c);
  return out;
}

std::string without_spaces(const std::string& text) {
  std::string out = lower_case(text);
  std::erase(out, ' ');
  return out;
}

}  // namespace

std::string right_letters(const std::string& right) {
  const std::vector<std::string> words = words_of(right);
  std::string letters = words.empty() ? "" : words[0];
  std::erase_if(letters, [](char c) { return !is_choice(c); });
  return letters.empty() ? "A" : letters;
}

std::string chosen_letters(const std::string& answer, bool several) {
  if (words_of(answer).empty()) return "None";
  if (std::string_view("ABCD").find(answer) != std::string_view::npos) return answer;
  const auto first = std::find_if(answer.begin(), answer.end(), is_choice);
  if (!several && first != answer.end()) return {*first};
  const auto begin = static_cast<size_t>(std::find_if_not(answer.begin(), answer.end(), is_choice) -
                                         answer.begin());
  std::string found = answer.substr(0, begin);
  if (found.size() > 1) return choices_in(found);
  const std::string rest =
      with_blanks(answer.substr(begin, answer.find("Question", begin) - begin));
  for (size_t i = 0; i + 1 < rest.size(); ++i)
    if (is_choice(rest[i]) && (rest[i + 1] == ' ' || rest[i + 1] == '.' || rest[i + 1] == ')'))
      found += rest[i];
  found = choices_in(found);
  if (!found.empty()) return found;
  const auto run = std::find_if(rest.begin(), rest.end(), is_choice);
  found.assign(run, std::find_if_not(run, rest.end(), is_choice));
  return found.empty() ? "A" : found;
}

std::string number_in(const std::string& answer) {
  constexpr std::string_view kSaid = "The answer is ";
  std::string word;
  for (size_t at = 0; word.empty() && (at = answer.find(kSaid, at)) != std::string::npos;) {
    at += kSaid.size();
    const std::string after = with_blanks(answer.substr(at));
    word = after.substr(0, after.find(' '));
  }
  if (word.empty()) {
    const std::string paragraph = answer.substr(0, answer.find("\n\n"));
    size_t last = paragraph.find_last_of("0123456789");
    if (last == std::string::npos) return "";
    const size_t begin = paragraph.rfind(' ', last);
    word = paragraph.substr(begin == std::string::npos ? 0 : begin + 1);
    word = word.substr(0, word.find(' '));
  }
  std::string digits;
  for (const char c : word) {
    if (c == '.') break;
    if (is_digit(c)) digits += c;
  }
  return digits;
}

std::string plain_code(const std::string& text) {
  std::string out;
  for (const char c : with_blanks(text))
    if (c != ' ')
      out += c;
    else if (out.empty() || out.back() != ' ')
      out += ' ';
  for (const char* nothing : {",", "'", "\\", ".0"}) replace_all(out, nothing, "");
  replace_all(out, "] [", "][");
  replace_all(out, "[ [", "[[");
  replace_all(out, "] ]", "]]");
  return out;
}

std::string printed_value(const std::string& answer, const std::string& right) {
  std::string text = plain_code(answer);
  for (const char* phrase :
       {"will be", "of the code", "is", "would be", "the value of", "the result of", "printed"})
    replace_all(text, phrase, "");
  const size_t wanted = words_of(right).size() + 3;
  constexpr std::string_view kFinal = "the final output";
  const size_t said = text.rfind(kFinal);
  if (said != std::string::npos) text = text.substr(said + kFinal.size());
  // Split at runs of spaces, where a run at either end leaves an empty word.
  std::vector<std::string> words(1);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != ' ')
      words.back() += text[i];
    else if (i == 0 || text[i - 1] != ' ')
      words.emplace_back();
  }
  if (words.size() > wanted) {
    const auto extra = static_cast<std::ptrdiff_t>(words.size() - wanted);
    if (said != std::string::npos)
      words.resize(wanted);
    else
      words.erase(words.begin(), words.begin() + extra);
  }
  return joined(words, " ");
}

std::string judgement(const std::string& answer) {
  for (const std::string& word : words_of(lower_case(answer))) {
    if (word.find("true") != std::string::npos) return "true";
    if (word.find("false") != std::string::npos) return "false";
  }
  return "<error>";
}

double exact_match(const std::string& answer, const std::string& right) {
  const std::string plain_right = joined(plain_words(right, true), " "),
                    plain_answer = joined(plain_words(answer, true), " ");
  if (std::all_of(plain_right.begin(), plain_right.end(), is_choice)) {
    if (plain_answer == plain_right) return 1;
    return std::all_of(plain_answer.begin(), plain_answer.end(),
                       [&](char c) { return plain_right.find(c) != std::string::npos; })
               ? 0.25
               : 0;
  }
  const auto a = number_of(answer), b = number_of(right);
  if (a && b) return *a == *b ? 1 : 0;
  return without_spaces(answer).find(without_spaces(right)) != std::string::npos ? 1 : 0;
}

}  // namespace mullion
