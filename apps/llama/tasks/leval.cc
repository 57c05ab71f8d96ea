// L-Eval (An et al. 2023): questions on long documents with one right answer (closed tasks), and
// answers and summaries that share words with a right one (open tasks, where a row asks for f1 or
// rouge; rows that a person or a model has to judge are left out, and counted).
//   eval_llama leval -m DIR --data LEval-data --tasks coursera,quality
// Prompts ask for the same as L-Eval's, in this project's words.
#include <algorithm>
#include <cmath>

#include "apps/llama/evaluation/exam_answers.h"
#include "apps/llama/evaluation/set_files.h"
#include "apps/llama/evaluation/task.h"
#include "apps/llama/evaluation/text_metrics.h"
#include "apps/llama/evaluation/written.h"
#include "apps/program/log.h"
#include "tensor/io/json.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

enum class Kind { letters, several_letters, number, code, judged, topic, open };

struct Task {
  const char* name;
  Kind kind;
  const char* before;  // what stands before the document
};
constexpr char kOneLetter[] =
    "A long document follows, and a question about it. Of several choices one is right: answer "
    "with "
    "its letter alone, such as A or B. To other questions write the answer alone, in short.\n";
constexpr char kSeveralLetters[] =
    "A long document follows, and a question about it. Of its choices one is right or several: "
    "answer with their letters alone, such as A or AB.\n";
constexpr char kOpen[] =
    "A long document follows, and after it what to do with it: summarise it, answer a question "
    "from it or write a paragraph.\n";
const Task kTasks[] = {
    {"coursera", Kind::several_letters, kSeveralLetters},
    {"quality", Kind::letters, kOneLetter},
    {"tpo", Kind::letters, kOneLetter},
    {"gsm100", Kind::number,
     "Questions and their answers follow. Answer the last question in the same form, and end with "
     "The answer is and the number.\n"},
    {"codeU", Kind::code,
     "The source of many functions follows, with comments. After it some of them are called: read "
     "the source with care and answer the question.\n"},
    {"sci_fi", Kind::judged,
     "A story of science fiction follows. Answer the questions with True or False, by what the "
     "story says and not by what you know.\n"},
    {"topic_retrieval_longchat", Kind::topic,
     "A record of our conversation on several topics follows. Keep each topic in mind: at the end "
     "you are asked for one of them.\n"},
    {"financial_qa", Kind::open, kOpen},
    {"gov_report_summ", Kind::open, kOpen},
    {"legal_contract_qa", Kind::open, kOpen},
    {"meeting_summ", Kind::open, kOpen},
    {"multidoc_qa", Kind::open, kOpen},
    {"narrative_qa", Kind::open, kOpen},
    {"natural_question", Kind::open, kOpen},
    {"news_summ", Kind::open, kOpen},
    {"paper_assistant", Kind::open, kOpen},
    {"patent_summ", Kind::open, kOpen},
    {"review_summ", Kind::open, kOpen},
    {"scientific_qa", Kind::open, kOpen},
    {"tv_show_summ", Kind::open, kOpen}};

OptionTable leval_table() {
  OptionTable table("eval_llama leval", "Questions and summaries on long documents");
  table
      .add_optional<fs::path>("leval.data", "--data",
                              "folder with L-Eval's NAME.jsonl files, or folders of them")
      .required();
  table.add("leval.tasks", "--tasks", std::vector<std::string>{"closed"},
            "names of tasks; closed, open or all: those that are there");
  table.add("leval.max_tokens", "--max-tokens", 512, "tokens of an answer at most").at_least(1);
  table
      .add("leval.max_length", "--max-length", 0,
           "tokens of a prompt, whose document loses its last words (of code its first); 0: what "
           "the context holds")
      .at_least(0);
  add_written_options(table);
  return table;
}

struct Chosen {
  const Task* task;
  fs::path file;
};

std::vector<Chosen> chosen_tasks(const Options& options) {
  SetCollection collection{.name = "leval", .sets = {}, .groups = {}};
  for (const Task& task : kTasks) collection.sets.emplace_back(task.name);
  const auto is_open = [](size_t set) { return kTasks[set].kind == Kind::open; };
  collection.groups = {{"closed", [=](size_t set) { return !is_open(set); }},
                       {"open", is_open},
                       {"all", [](size_t) { return true; }}};
  std::vector<Chosen> chosen;
  for (const SetFile& found :
       chosen_sets(collection, options.get<std::vector<std::string>>("leval.tasks"),
                   options.get<fs::path>("leval.data")))
    chosen.push_back({&kTasks[found.set], found.file});
  return chosen;
}

// A prompt in three parts, of which the document may be cut.
struct Parts {
  std::string before, document, after;
};

// What a question is asked with, and its right answer as it is compared.
class Questions {
 public:
  Questions(WrittenTask& task, int64_t max_tokens) : task_(task), max_tokens_(max_tokens) {}

  void add_file(const Chosen& chosen) {
    size_t judged_elsewhere = 0;
    for (const JsonRow& row : read_json_rows(chosen.file)) {
      const auto asked = get_strings(row.json, row.where, "instructions"),
                 right = get_strings(row.json, row.where, "outputs");
      const std::string document = get_string(row.json, row.where, "input"),
                        metric = get_string(row.json, row.where, "evaluation");
      CHECK_AS(Fault::bad_file, asked.size() == right.size(), row.where,
               ": instructions: ", asked.size(), " for ", right.size(), " outputs");
      const bool exam = chosen.task->kind != Kind::open;
      CHECK_AS(Fault::bad_file, !exam || metric == "exam", row.where, ": evaluation: ", metric,
               ", expected exam");
      if (!exam && metric != "f1" && metric != "rouge") {
        CHECK_AS(Fault::bad_file, metric == "LLM" || metric == "human", row.where,
                 ": evaluation: ", metric, " is not one of f1, rouge, LLM, human");
        judged_elsewhere += asked.size();
        continue;
      }
      for (size_t i = 0; i < asked.size(); ++i)
        add(*chosen.task, metric, {chosen.task->before, document, asked[i]}, right[i], i,
            row.where);
    }
    if (judged_elsewhere > 0)
      log_warning(chosen.file.string(), ": ", judged_elsewhere,
                  " questions whose answers a person or a model judges are left out");
  }
  const Parts& parts(const WrittenQuestion& q) const { return parts_.at(q.number); }
  Kind kind(const WrittenQuestion& q) const { return kinds_.at(q.number); }

 private:
  void add(const Task& task, const std::string& metric, Parts parts, const std::string& right,
           size_t number, const std::string& where) {
    std::string name = task.name;
    CHECK_AS(Fault::bad_file, !words_of(right).empty(), where, ": outputs: number ", number,
             " is empty");
    if (task.kind == Kind::letters || task.kind == Kind::several_letters)
      CHECK_AS(Fault::bad_file, words_of(right)[0].find_first_of("ABCD") != std::string::npos,
               where, ": outputs: ", right, " names none of A, B, C and D");
    CHECK_AS(Fault::bad_file, task.kind != Kind::number || !number_in(right).empty(), where,
             ": outputs: ", right, " has no number");
    switch (task.kind) {
      case Kind::letters:
      case Kind::several_letters:
        parts.after = "\n\nQuestion: " + parts.after + "\n\nAnswer:";
        return put(name, "exact_match", task.kind, std::move(parts), right_letters(right));
      case Kind::number:
        parts.after = "\n\n" + parts.after;
        return put(name, "exact_match", task.kind, std::move(parts), number_in(right));
      case Kind::code:
        parts.after = "\n\n" + parts.after;
        return put(name, "exact_match", task.kind, std::move(parts), right);
      case Kind::topic:
        parts.after = "\n\n" + parts.after;
        return put(concat(name, " ", number % 3 + 1), "exact_match", task.kind, std::move(parts),
                   right);
      case Kind::open:
        parts.after = concat("\n\n", parts.after, "\nUse ", words_of(right).size(), " words.");
        return put(name, metric, task.kind, std::move(parts), right);
      case Kind::judged:
        break;
    }
    // "True [fact: False]": by the story, and in the world, where the document is not shown.
    const size_t fact = right.find("[fact:");
    CHECK_AS(Fault::bad_file, fact != std::string::npos, where, ": outputs: ", right,
             " has no [fact: ...]");
    Parts world{"", "", parts.after};
    constexpr std::string_view kStory = "based on the world described in the document.";
    const size_t story = world.after.find(kStory);
    if (story != std::string::npos)
      world.after.replace(story, kStory.size(), "by what is known of the real world.");
    world.after += "\nAnswer:";
    parts.after = "\n\nQuestion: " + parts.after + "\n\nAnswer:";
    put(name + " loyalty", "exact_match", task.kind, std::move(parts),
        judgement(right.substr(0, fact)));
    put(name + " fact", "exact_match", task.kind, std::move(world),
        judgement(right.substr(fact + 6)));
  }

  void put(const std::string& group, const std::string& metric, Kind kind, Parts parts,
           const std::string& right) {
    const auto metrics = metric == "rouge" ? std::vector<std::string>{"rouge1", "rouge2", "rougeL"}
                                           : std::vector<std::string>{metric};
    auto at = std::find_if(task_.groups.begin(), task_.groups.end(), [&](const WrittenGroup& g) {
      return g.name == group && g.metrics == metrics;
    });
    if (at == task_.groups.end())
      at = task_.groups.insert(at, {.name = group,
                                    .metrics = metrics,
                                    .max_tokens = max_tokens_,
                                    .chat = kind != Kind::number && kind != Kind::code});
    const nlohmann::json json = {{"task", group}, {"question", parts.after}, {"right", right}};
    task_.questions.push_back({.group = static_cast<size_t>(at - task_.groups.begin()),
                               .number = parts_.size(),
                               .prompt = parts.before + parts.document + parts.after,
                               .targets = {right},
                               .json = json.dump()});
    parts_.push_back(std::move(parts));
    kinds_.push_back(kind);
  }

  WrittenTask& task_;
  int64_t max_tokens_;
  std::vector<Parts> parts_;
  std::vector<Kind> kinds_;
};

// Without as many words of the document as it takes, halving the interval of how many may stay.
std::string with_shorter_document(const Parts& parts, bool keep_end, const Tokenizer& tokenizer,
                                  int64_t limit) {
  std::vector<size_t> ends;  // of the document's words, split at single spaces
  for (size_t at = 0; at <= parts.document.size();) {
    at = std::min(parts.document.find(' ', at), parts.document.size());
    ends.push_back(at++);
  }
  const auto with_words = [&](size_t words) {
    const size_t left_out = ends.size() - words;
    std::string document;
    if (words > 0 && keep_end)
      document = left_out == 0 ? parts.document : parts.document.substr(ends[left_out - 1] + 1);
    else if (words > 0)
      document = parts.document.substr(0, ends[words - 1]);
    return parts.before + document + parts.after;
  };
  const auto fits = [&](size_t words) {
    return std::ssize(tokenizer.encode(with_words(words), {.bos = tokenizer.add_bos()})) <= limit;
  };
  if (fits(ends.size())) return with_words(ends.size());
  size_t most = 0, too_many = ends.size();
  while (most + 1 < too_many) {
    const size_t middle = (most + too_many) / 2;
    (fits(middle) ? most : too_many) = middle;
  }
  return with_words(most);
}

std::vector<double> graded(Kind kind, const WrittenGroup& group, const std::string& answer,
                           const std::string& right) {
  switch (kind) {
    case Kind::letters:
      return {exact_match(chosen_letters(answer, false), right)};
    case Kind::several_letters:
      return {exact_match(chosen_letters(answer, true), right)};
    case Kind::number:
      return {exact_match(number_in(answer), right)};
    case Kind::code:
      return {exact_match(printed_value(answer, right), right)};
    case Kind::judged:
      return {exact_match(judgement(answer), right)};
    case Kind::topic:
      return {exact_match(answer, right)};
    case Kind::open:
      break;
  }
  if (group.metrics.size() == 1) return {word_f1(answer, right)};
  const Rouge rouge = rouge_of(answer, right);
  return {rouge.one, rouge.two, rouge.l};
}

Outcome leval(const Options& options, SharedModel& shared) {
  WrittenTask task;
  task.name = "leval";
  Questions questions(task, options.get<int64_t>("leval.max_tokens"));
  for (const Chosen& chosen : chosen_tasks(options)) questions.add_file(chosen);
  CHECK_AS(Fault::bad_file, !task.questions.empty(), "leval: no question whose answer is compared");
  task.max_prompt = options.get<int64_t>("leval.max_length");
  task.shorten = [&](const WrittenQuestion& q, const Tokenizer& tokenizer, int64_t limit) {
    return with_shorter_document(questions.parts(q), questions.kind(q) == Kind::code, tokenizer,
                                 limit);
  };
  task.grade = [&](const WrittenQuestion& q, const std::string& answer) {
    return graded(questions.kind(q), task.groups[q.group], answer, q.targets[0]);
  };
  task.result = [](const WrittenGroup& group, const std::vector<Mean>& means) {
    JsonObject row;
    row.set("task", group.name);
    if (means.size() == 1)
      return row.set("metric", group.metrics[0])
          .set("score", 100 * means[0].value)
          .set("stderr", 100 * means[0].error)
          .set("n", means[0].n);
    double product = 1;
    for (size_t i = 0; i < means.size(); ++i) {
      row.set(group.metrics[i], 100 * means[i].value);
      product *= 100 * means[i].value;
    }
    return row.set("metric", "rouge").set("score", std::cbrt(product)).set("n", means[0].n);
  };
  return run_written(options, shared, task);
}

}  // namespace

EvaluationTask leval_task() { return {leval_table(), leval}; }

}  // namespace mullion
