// One reader a task: its fields, checked, and the texts that its questions become.
#include "apps/llama/evaluation/choice_format.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/llama/evaluation/copa_xml.h"
#include "apps/llama/evaluation/json_rows.h"
#include "apps/llama/evaluation/text_metrics.h"
#include "data/utf8.h"
#include "tensor/check.h"
#include "tensor/io/json.h"

namespace mullion {
namespace {

using Json = nlohmann::json;

// A row and where it stands, for errors.
struct Row {
  const Json& json;
  const std::string& where;
  std::string text(const char* key) const { return get_string(json, where, key); }
  const Json& field(const char* key) const {
    const Json* found = find_field(json, where, key);
    CHECK_AS(Fault::bad_file, found != nullptr, where, ": ", key, " is missing");
    return *found;
  }
  // A label that is an integer, or a text of one, from `first` on.
  int64_t number(const char* key, int64_t first) const {
    const Json& value = field(key);
    const std::string digits = value.is_string() ? value.get<std::string>() : value.dump();
    CHECK_AS(Fault::bad_file,
             digits.size() == 1 && digits[0] >= '0' && digits[0] <= '9' &&
                 (value.is_string() || value.is_number_integer()),
             where, ": ", key, ": ", digits, " is not the number of a choice");
    return digits[0] - '0' - first;
  }
};

// The choice whose label is `key`.
int64_t place_of(const Row& row, const std::string& key, const std::vector<std::string>& labels) {
  const auto found = std::find(labels.begin(), labels.end(), key);
  CHECK_AS(Fault::bad_file, found != labels.end(), row.where, ": answerKey: ", key,
           " names no choice");
  CHECK_AS(Fault::bad_file,
           std::set<std::string>(labels.begin(), labels.end()).size() == labels.size(), row.where,
           ": choices: a label comes twice");
  return found - labels.begin();
}

// "Please choose the correct answer to the question: TEXT\n\nAnswer1: A Answer2: B ...\n\nAnswer
// format: answer1/answer2", as LLM-Adapters writes several tasks.
void read_instruction(const Row& row, ChoiceQuestion& q) {
  const std::string text = row.text("instruction"), answer = row.text("answer");
  const std::string lead = "question: ";
  const size_t begin = text.find(lead), middle = text.find("\n\nAnswer1: ");
  const size_t end = text.find("\n\nAnswer format:");
  CHECK_AS(Fault::bad_file,
           begin != text.npos && middle != text.npos && end != text.npos && begin < middle &&
               middle < end,
           row.where, ": instruction: no question with Answer1: and an answer format");
  q.text = text.substr(begin + lead.size(), middle - begin - lead.size());
  size_t at = middle + 2;
  for (int64_t i = 1; at < end; ++i) {
    const std::string mark = concat("Answer", i, ": "), next = concat(" Answer", i + 1, ": ");
    at += mark.size();
    const size_t stop = std::min(text.find(next, at), end);
    q.choices.push_back(text.substr(at, stop - at));
    at = stop == end ? end : stop + 1;
  }
  q.answer = -1;
  for (size_t i = 0; i < q.choices.size(); ++i)
    if (answer == concat("answer", i + 1)) q.answer = static_cast<int64_t>(i);
  CHECK_AS(Fault::bad_file, q.answer >= 0, row.where, ": answer: ", answer, " names no choice");
}

// {"question": {"stem", "choices": [{"text", "label"}]}, "answerKey"} as published, or Hugging
// Face's {"question" or "question_stem", "choices": {"text": [], "label": []}, "answerKey"}.
void read_science(const Row& row, ChoiceQuestion& q) {
  if (row.json.contains("instruction")) return read_instruction(row, q);
  std::vector<std::string> labels;
  const Json* question = find_field(row.json, row.where, "question");
  if (question != nullptr && question->is_object()) {
    const Row inner{*question, row.where};
    q.text = inner.text("stem");
    const Json& choices = inner.field("choices");
    CHECK_AS(Fault::bad_file, choices.is_array(), row.where, ": choices is not a list");
    for (const Json& choice : choices) {
      q.choices.push_back(get_string(choice, row.where, "text"));
      labels.push_back(get_string(choice, row.where, "label"));
    }
  } else {
    q.text = row.text(row.json.contains("question_stem") ? "question_stem" : "question");
    const Json& choices = row.field("choices");
    q.choices = get_strings(choices, row.where, "text");
    labels = get_strings(choices, row.where, "label");
    CHECK_AS(Fault::bad_file, labels.size() == q.choices.size(), row.where,
             ": choices: ", q.choices.size(), " texts and ", labels.size(), " labels");
  }
  q.answer = place_of(row, row.text("answerKey"), labels);
}

void read_openbookqa(const Row& row, ChoiceQuestion& q) { read_science(row, q); }

void read_arc(const Row& row, ChoiceQuestion& q) {
  read_science(row, q);
  q.text = "Question: " + q.text + "\nAnswer:";
}

void read_piqa(const Row& row, ChoiceQuestion& q) {
  q.text = "Question: " + row.text("goal") + "\nAnswer:";
  q.choices = {row.text("sol1"), row.text("sol2")};
  q.answer = row.number("label", 0);
}

std::string hellaswag_text(std::string text) {
  const auto replace = [&text](const std::string& from, const std::string& to) {
    for (size_t at = text.find(from); at != text.npos; at = text.find(from, at + to.size()))
      text.replace(at, from.size(), to);
  };
  text = std::string(stripped(text));
  replace(" [title]", ". ");
  for (size_t open = text.find('['); open != text.npos; open = text.find('[', open)) {
    const size_t close = text.find(']', open);
    if (close == text.npos) break;
    text.erase(open, close - open + 1);
  }
  replace("  ", " ");
  return text;
}

void read_hellaswag(const Row& row, ChoiceQuestion& q) {
  q.text = hellaswag_text(row.text("activity_label") + ": " + row.text("ctx_a") + " " +
                          capitalized(row.text("ctx_b")));
  for (const std::string& ending : get_strings(row.json, row.where, "endings"))
    q.choices.push_back(hellaswag_text(ending));
  q.answer = row.number("label", 0);
}

// LLM-Adapters' "...complete the given sentence: TEXT\n\nOption1: A Option2: B Answer format: ..."
// as the fields of the data set.
Json winogrande_fields(const Row& row) {
  const std::string text = row.text("instruction"), answer = row.text("answer");
  const std::string lead = "sentence: ", first = "\n\nOption1: ", second = " Option2: ";
  const size_t begin = text.find(lead), a = text.find(first);
  const size_t b = a == text.npos ? a : text.find(second, a);
  const size_t end = b == text.npos ? b : text.find(" Answer format:", b);
  CHECK_AS(Fault::bad_file, begin < a && end != text.npos, row.where,
           ": instruction: no sentence with Option1:, Option2: and an answer format");
  CHECK_AS(Fault::bad_file, answer == "option1" || answer == "option2", row.where,
           ": answer: ", answer, " names no choice");
  const auto between = [&](size_t from, const std::string& mark, size_t to) {
    return text.substr(from + mark.size(), to - from - mark.size());
  };
  return {{"sentence", between(begin, lead, a)},
          {"option1", between(a, first, b)},
          {"option2", between(b, second, end)},
          {"answer", answer.substr(6)}};
}

// "Sarah was better than Maria so _ got the easier cases.": each option in its place is a text of
// its own, and what follows is scored behind it.
void read_winogrande(const Row& row, ChoiceQuestion& q) {
  if (row.json.contains("instruction")) {
    const Json fields = winogrande_fields(row);
    return read_winogrande({fields, row.where}, q);
  }
  q.text = row.text("sentence");
  const size_t blank = q.text.find('_');
  CHECK_AS(Fault::bad_file, blank != q.text.npos, row.where, ": sentence: has no _ to fill in");
  const std::string rest(stripped(std::string_view(q.text).substr(blank + 1)));
  CHECK_AS(Fault::bad_file, !rest.empty(), row.where, ": sentence: nothing follows the _");
  for (const char* key : {"option1", "option2"}) {
    const std::string option = row.text(key);
    CHECK_AS(Fault::bad_file, !option.empty(), row.where, ": ", key, " is empty");
    q.texts.push_back(q.text.substr(0, blank) + option);
    q.choices.push_back(rest);
  }
  q.answer = row.number("answer", 1);
}

// "The man broke his toe. What was the CAUSE of this?" -> "The man broke his toe because"
void read_copa(const Row& row, ChoiceQuestion& q) {
  std::string premise = row.text("premise");
  premise.resize(without_last_spaces(premise).size());
  // lm-eval drops the last character, whatever it is.
  while (!premise.empty() && (premise.back() & 0xC0) == 0x80) premise.pop_back();
  if (!premise.empty()) premise.pop_back();
  const std::string asked = row.text("question");
  CHECK_AS(Fault::bad_file, asked == "cause" || asked == "effect", row.where, ": question: ", asked,
           " is neither cause nor effect");
  q.text = premise + (asked == "cause" ? " because" : " therefore");
  for (const char* key : {"choice1", "choice2"}) {
    std::string choice = row.text(key);
    CHECK_AS(Fault::bad_file, !choice.empty(), row.where, ": ", key, " is empty");
    choice[0] = static_cast<char>(std::tolower(choice[0]));
    q.choices.push_back(" " + choice);  // with the one between, two spaces: lm-eval's task has them
  }
  q.answer = row.number("label", 0);
}

struct Format {
  const char* name;
  void (*read)(const Row&, ChoiceQuestion&);
};
const Format kFormats[] = {{"openbookqa", read_openbookqa},
                           {"piqa", read_piqa},
                           {"arc_easy", read_arc},
                           {"arc_challenge", read_arc},
                           {"hellaswag", read_hellaswag},
                           {"winogrande", read_winogrande},
                           {"copa", read_copa}};

void check(const ChoiceQuestion& q, const std::string& where) {
  CHECK_AS(Fault::bad_file, !q.text.empty(), where, ": the question is empty");
  CHECK_AS(Fault::bad_file, q.choices.size() >= 2, where, ": choices: ", q.choices.size(),
           ", at least two are needed");
  for (size_t i = 0; i < q.choices.size(); ++i)
    CHECK_AS(Fault::bad_file, !q.choices[i].empty(), where, ": choice ", i + 1, " is empty");
  CHECK_AS(Fault::bad_file, q.answer >= 0 && q.answer < std::ssize(q.choices), where, ": answer ",
           q.answer, " names none of the ", q.choices.size(), " choices");
}

}  // namespace

const std::vector<std::string>& choice_task_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Format& format : kFormats) all.emplace_back(format.name);
    return all;
  }();
  return names;
}

std::vector<ChoiceQuestion> read_choice_questions(const std::string& task,
                                                  const std::filesystem::path& file) {
  const auto format = std::find_if(std::begin(kFormats), std::end(kFormats),
                                   [&](const Format& f) { return f.name == task; });
  CHECK_AS(Fault::usage, format != std::end(kFormats), "--task: no task ", task);
  std::vector<ChoiceQuestion> questions;
  std::map<std::string, std::string> seen;
  const bool xml = file.extension() == ".xml";
  CHECK_AS(Fault::usage, !xml || task == "copa", file.string(), ": XML is read for --task copa");
  (xml ? each_copa_item : each_json_row)(file, [&](const Json& json, const std::string& where) {
    ChoiceQuestion q;
    format->read({json, where}, q);
    q.json = json.dump();
    q.id = json.contains("id")    ? get_string(json, where, "id")
           : json.contains("ind") ? json.at("ind").dump()
                                  : std::to_string(questions.size());
    check(q, where);
    const auto [twin, is_new] = seen.emplace(q.id, where);
    CHECK_AS(Fault::bad_file, is_new, where, ": id: ", q.id, " is that of ", twin->second, " too");
    questions.push_back(std::move(q));
  });
  return questions;
}

std::string few_shot_text(const std::vector<ChoiceQuestion>& rows, int64_t shots,
                          const std::filesystem::path& file) {
  CHECK_AS(Fault::usage, shots <= std::ssize(rows), "--num-fewshot ", shots, ": ", file.string(),
           " has ", rows.size(), " rows");
  std::string text;
  for (int64_t i = 0; i < shots; ++i) {
    const ChoiceQuestion& row = rows[static_cast<size_t>(i)];
    text += row.text_of(static_cast<size_t>(row.answer)) + " " +
            row.choices[static_cast<size_t>(row.answer)] + "\n\n";
  }
  return text;
}

}  // namespace mullion
