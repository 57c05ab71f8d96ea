// Questions with several answers, from the files of the usual tasks, and the texts that are scored
// for them, as lm-eval's tasks of the same names have it.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace mullion {

struct ChoiceQuestion {
  std::string id;
  std::string text;                  // that comes before the answer
  std::vector<std::string> texts;    // one for each choice, where they differ: winogrande
  std::vector<std::string> choices;  // without the space in front
  int64_t answer = 0;                // among them
  std::string json;                  // the row of the file
  const std::string& text_of(size_t choice) const { return texts.empty() ? text : texts[choice]; }
};

const std::vector<std::string>& choice_task_names();
// The rows of a .jsonl file, of the list in a .json file, or of COPA's .xml. Error(bad_file) naming
// the file, the row and the field: fields that are missing or of another type, choices that are
// empty or fewer than two, an answer that names none, ids that come twice.
std::vector<ChoiceQuestion> read_choice_questions(const std::string& task,
                                                  const std::filesystem::path& file);
// "question answer" and an empty line for each of the first `shots` rows. Error(usage) where there
// are fewer.
std::string few_shot_text(const std::vector<ChoiceQuestion>& rows, int64_t shots,
                          const std::filesystem::path& file);

}  // namespace mullion
