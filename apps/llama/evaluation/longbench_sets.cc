// The metrics as functions, then the table of sets that names them.
#include "apps/llama/evaluation/longbench_sets.h"

#include <algorithm>
#include <cmath>

#include "apps/llama/evaluation/text_metrics.h"

namespace mullion {
namespace {

using Classes = std::vector<std::string>;

std::string first_line(const std::string& text) {
  const size_t begin = std::min(text.find_first_not_of('\n'), text.size());
  return text.substr(begin, text.find('\n', begin) - begin);
}

double by_f1(const std::string& answer, const std::string& right, const Classes&) {
  return word_f1(answer, right);
}
double by_f1_of_line(const std::string& answer, const std::string& right, const Classes&) {
  return word_f1(first_line(answer), right);
}
double by_rouge(const std::string& answer, const std::string& right, const Classes&) {
  return rouge_l_of_summary(answer, right);
}
double by_rouge_of_line(const std::string& answer, const std::string& right, const Classes&) {
  return rouge_l_of_summary(first_line(answer), right);
}
double by_count(const std::string& answer, const std::string& right, const Classes&) {
  return number_share(answer, right);
}
// "Paragraph 12": its number.
double by_paragraph(const std::string& answer, const std::string& right, const Classes&) {
  const size_t begin = right.find_first_of("0123456789");
  return number_share(answer,
                      right.substr(begin, right.find_first_not_of("0123456789", begin) - begin));
}
// The classes that the answer names, but for some of those whose name is a part of the right one's:
// the published loop drops from the list that it walks, and so passes over each one's successor.
double by_class(const std::string& answer, const std::string& right, const Classes& classes) {
  const std::string line = first_line(answer);
  std::vector<std::string> named;
  for (const std::string& name : classes)
    if (line.find(name) != std::string::npos) named.push_back(name);
  for (size_t i = 0; i < named.size(); ++i) {
    const std::string name = named[i];
    if (name != right && right.find(name) != std::string::npos)
      named.erase(std::find(named.begin(), named.end(), name));
  }
  const bool found = std::find(named.begin(), named.end(), right) != named.end();
  return found ? 1.0 / static_cast<double>(named.size()) : 0;
}
// The first line that has neither a quote of code nor a comment, in hundredths.
double by_code(const std::string& answer, const std::string& right, const Classes&) {
  std::string line;
  for (size_t begin = std::min(answer.find_first_not_of('\n'), answer.size()), end = begin;
       begin <= answer.size(); begin = end + 1) {
    end = std::min(answer.find('\n', begin), answer.size());
    const std::string one = answer.substr(begin, end - begin);
    if (one.find_first_of("`#") != std::string::npos || one.find("//") != std::string::npos)
      continue;
    line = one;
    break;
  }
  return std::nearbyint(100 * sequence_similarity(code_points(line), code_points(right))) / 100;
}

constexpr char kPassages[] =
    "Several passages follow. Use them to answer the question after them, and write the answer "
    "alone.\n\n{context}\n\nAnswer from these passages, and write the answer alone.\n\nQuestion: "
    "{input}\nAnswer:";
const LongbenchSet kSets[] = {
    {"narrativeqa", "single-document QA", "f1", by_f1, 128, true, false,
     "A story follows: a novel or the script of a film. Answer the question after it in as few "
     "words as possible, without explaining.\n\nStory: {context}\n\nAnswer from this story in as "
     "few words as possible, without explaining.\n\nQuestion: {input}\n\nAnswer:"},
    {"qasper", "single-document QA", "f1", by_f1, 128, true, false,
     "A scientific article follows. Answer the question after it with a phrase or one sentence, "
     "without explaining: \"yes\" or \"no\" where that is asked, and \"unanswerable\" where the "
     "article does not say.\n\nArticle: {context}\n\nAnswer from this article with a phrase or one "
     "sentence: \"yes\" or \"no\" where that is asked, and \"unanswerable\" where the article does "
     "not say.\n\nQuestion: {input}\n\nAnswer:"},
    {"multifieldqa_en", "single-document QA", "f1", by_f1, 64, true, false,
     "Read this text and answer in short.\n\n{context}\n\nAnswer the question from the text, and "
     "write the answer alone.\n\nQuestion: {input}\nAnswer:"},
    {"hotpotqa", "multi-document QA", "f1", by_f1, 32, true, false, kPassages},
    {"2wikimqa", "multi-document QA", "f1", by_f1, 32, true, false, kPassages},
    {"musique", "multi-document QA", "f1", by_f1, 32, true, false, kPassages},
    {"gov_report", "summaries", "rouge-l", by_rouge, 512, true, false,
     "A report of a government agency follows. Summarise it on one page.\n\nReport:\n{context}\n\n"
     "Summarise the report on one page.\n\nSummary:"},
    {"qmsum", "summaries", "rouge-l", by_rouge, 512, true, false,
     "The record of a meeting follows, and a request about it. Answer in one sentence or a few."
     "\n\nRecord:\n{context}\n\nAnswer the request from this record in one sentence or a few.\n\n"
     "Request: {input}\nAnswer:"},
    {"multi_news", "summaries", "rouge-l", by_rouge, 512, true, false,
     "Several news reports follow. Summarise all of them on one page.\n\nNews:\n{context}\n\n"
     "Summarise all of the news on one page.\n\nSummary:"},
    {"trec", "examples to follow", "accuracy", by_class, 64, false, false,
     "Find the type of the last question. Examples of questions and their types follow.\n\n"
     "{context}\n{input}"},
    {"triviaqa", "examples to follow", "f1", by_f1_of_line, 32, false, false,
     "Answer the last question from the passage, and write the answer alone. Examples follow.\n\n"
     "{context}\n\n{input}"},
    {"samsum", "examples to follow", "rouge-l", by_rouge_of_line, 128, false, true,
     "Summarise the last dialogue in a few short sentences. Examples follow.\n\n{context}\n\n"
     "{input}"},
    {"passage_count", "synthetic", "accuracy", by_count, 32, true, false,
     "Paragraphs from Wikipedia follow, some of them more than once. Read them with care and count "
     "the different ones.\n\n{context}\n\nWrite how many different paragraphs there are, as a "
     "number alone, such as 1, 2 or 3.\n\nThe number is: "},
    {"passage_retrieval_en", "synthetic", "accuracy", by_paragraph, 32, true, false,
     "Thirty paragraphs from Wikipedia follow, and an abstract of one of them. Find that "
     "paragraph.\n\n{context}\n\nThe abstract:\n\n{input}\n\nWrite the paragraph in the form "
     "\"Paragraph 1\" or \"Paragraph 2\".\n\nThe paragraph is: "},
    {"lcc", "code", "edit-sim", by_code, 64, false, false,
     "Go on with this code. \n{context}The next line of the code:\n"},
    {"repobench-p", "code", "edit-sim", by_code, 64, false, false,
     "Go on with this code. \n{context}{input}The next line of the code:\n"}};

}  // namespace

std::span<const LongbenchSet> longbench_sets() { return kSets; }

}  // namespace mullion
