// Passages found by their punctuation, then one maker a task; all draws come from (seed, index).
#include "data/book_tasks.h"

#include <algorithm>
#include <array>
#include <span>

#include "data/utf8.h"
#include "tensor/words.h"

namespace mullion {
namespace {

constexpr size_t kShortParagraph = 80;  // characters; a heading, a line of a dialogue
constexpr size_t kMostAnswer = 1200;    // of an opening or a continuation
constexpr std::array<std::string_view, 4> kNames = {"cloze", "retrieval", "opening",
                                                    "continuation"};

bool is_capital(char c) { return c >= 'A' && c <= 'Z'; }
bool is_letter(char c) { return is_capital(c) || (c >= 'a' && c <= 'z'); }

bool is_heading(std::string_view line) {
  for (const std::string_view word : {"CHAPTER", "Chapter", "BOOK", "PART", "LETTER"})
    if (line.size() < 60 && line.starts_with(word)) return true;
  return line.size() < 10 && std::all_of(line.begin(), line.end(), [](char c) {
           return std::string_view("IVXLC.").find(c) != std::string_view::npos;
         });
}

// Paragraphs [begin, end) of at least `characters` together; empty where the book ends before.
struct Passage {
  size_t begin, end;
};
std::optional<Passage> passage_from(const Book& book, size_t begin, size_t characters) {
  size_t size = 0, end = begin;
  while (size < characters && end < book.paragraphs.size()) size += book.paragraphs[end++].size();
  if (size < characters || end <= begin) return std::nullopt;
  return Passage{begin, end};
}

std::string joined(const Book& book, Passage p) {
  return mullion::joined(std::span(book.paragraphs).subspan(p.begin, p.end - p.begin), "\n\n");
}

std::vector<std::string_view> sentences(std::string_view paragraph) {
  std::vector<std::string_view> found;
  size_t begin = 0;
  for (size_t i = 0; i + 2 < paragraph.size(); ++i) {
    const bool ends = std::string_view(".!?").find(paragraph[i]) != std::string_view::npos &&
                      paragraph[i + 1] == ' ' && is_capital(paragraph[i + 2]);
    if (!ends) continue;
    found.push_back(paragraph.substr(begin, i + 1 - begin));
    begin = i + 2;
  }
  found.push_back(paragraph.substr(begin));
  std::erase_if(found, [](std::string_view s) { return s.size() < 40 || s.size() > 400; });
  return found;
}

size_t count(std::string_view text, std::string_view word) {
  size_t n = 0;
  for (size_t at = text.find(word); at != text.npos; at = text.find(word, at + 1)) ++n;
  return n;
}

// The place of a capitalised word inside the sentence that the passage has more than once.
std::optional<Passage> name_in(std::string_view sentence, std::string_view passage) {
  for (size_t i = 1; i < sentence.size(); ++i) {
    if (!is_capital(sentence[i]) || sentence[i - 1] != ' ') continue;
    size_t end = i;
    while (end < sentence.size() && is_letter(sentence[end])) ++end;
    if (end - i >= 4 && count(passage, sentence.substr(i, end - i)) >= 2) return Passage{i, end};
    i = end;
  }
  return std::nullopt;
}

size_t pick(Philox& random, size_t n) { return random.below(static_cast<uint32_t>(n)); }

std::optional<Instruction> cloze(const Book& book, Passage p, Philox& random) {
  const std::string text = joined(book, p);
  const std::string& paragraph = book.paragraphs[p.begin + pick(random, p.end - p.begin)];
  for (const std::string_view sentence : sentences(paragraph)) {
    const auto name = name_in(sentence, text);
    if (!name) continue;
    return Instruction{"Read this part of a book.\n\n" + text +
                           "\n\nIn this sentence of it a name is left out: \"" +
                           std::string(sentence.substr(0, name->begin)) + "____" +
                           std::string(sentence.substr(name->end)) + "\"\nWhich name is it?",
                       std::string(sentence.substr(name->begin, name->end - name->begin))};
  }
  return std::nullopt;
}

std::optional<Instruction> retrieval(const Book& book, Passage p, Philox& random) {
  const size_t n = p.end - p.begin, chosen = pick(random, n);
  const auto found = sentences(book.paragraphs[p.begin + chosen]);
  if (n < 2 || found.empty()) return std::nullopt;
  const std::string sentence(found[pick(random, found.size())]);
  if (count(joined(book, p), sentence) != 1) return std::nullopt;
  std::string text = "Here are numbered paragraphs of a book.\n\n";
  for (size_t i = 0; i < n; ++i)
    text += "[" + std::to_string(i + 1) + "] " + book.paragraphs[p.begin + i] + "\n\n";
  return Instruction{
      text + "In which paragraph does this stand: \"" + sentence + "\"\nAnswer with its number.",
      "Paragraph " + std::to_string(chosen + 1)};
}

}  // namespace

std::optional<BookTask> book_task(std::string_view name) {
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<BookTask>(found - kNames.begin());
}

Book parse_book(std::string_view text) {
  Book book;
  std::string paragraph;
  bool after_heading = false;
  const auto finish = [&] {
    if (is_heading(paragraph)) {
      after_heading = true;
    } else if (paragraph.size() >= kShortParagraph) {
      if (after_heading) book.chapters.push_back(book.paragraphs.size());
      after_heading = false;
      book.paragraphs.push_back(paragraph);
    }
    paragraph.clear();
  };
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = stripped(text.substr(begin, end - begin));
    if (line.empty())
      finish();
    else
      paragraph += (paragraph.empty() ? "" : " ") + std::string(line);
    begin = end + 1;
  }
  finish();
  return book;
}

std::optional<Instruction> make_book_task(BookTask task, const Book& book, size_t characters,
                                          Philox& random) {
  if (book.paragraphs.size() < 3) return std::nullopt;
  if (task == BookTask::opening && book.chapters.empty()) return std::nullopt;
  size_t begin = pick(random, book.paragraphs.size());
  if (task == BookTask::opening) begin = book.chapters[pick(random, book.chapters.size())];
  const size_t skip = task == BookTask::opening ? 1 : 0;
  const auto passage = passage_from(book, begin + skip, characters);
  if (!passage) return std::nullopt;
  if (task == BookTask::cloze) return cloze(book, *passage, random);
  if (task == BookTask::retrieval) return retrieval(book, *passage, random);
  const bool opening = task == BookTask::opening;
  if (!opening && passage->end == book.paragraphs.size()) return std::nullopt;
  const std::string& answer = book.paragraphs[opening ? begin : passage->end];
  if (answer.size() > kMostAnswer) return std::nullopt;
  const std::string text = joined(book, *passage);
  return Instruction{opening ? "This chapter of a book lacks its first paragraph.\n\n" + text +
                                   "\n\nHow does the chapter begin?"
                             : "Read this part of a book.\n\n" + text + "\n\nHow does it go on?",
                     answer};
}

}  // namespace mullion
