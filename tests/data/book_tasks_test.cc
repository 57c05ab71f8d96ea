// Instructions made from a small book: their questions, answers and sizes.
#include "data/book_tasks.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace mullion {
namespace {

// Three chapters of ten paragraphs, each with a sentence of its own and a name that returns.
std::string book_text() {
  std::string text;
  for (int c = 1; c <= 3; ++c) {
    text += "CHAPTER " + std::string(static_cast<size_t>(c), 'I') + "\n\n";
    for (int p = 0; p < 10; ++p)
      text += "In paragraph " + std::to_string(10 * c + p) +
              " of the book old Margaret looked out\n" +
              "of the window. She thought of Margaret the younger, who was in the garden then.\n\n";
  }
  return text;
}

TEST(BookTasks, ParagraphsAndChapters) {
  const Book book = parse_book(book_text());
  ASSERT_EQ(book.paragraphs.size(), 30u);
  EXPECT_EQ(book.chapters, (std::vector<size_t>{0, 10, 20}));
  EXPECT_TRUE(
      book.paragraphs[3].starts_with("In paragraph 13 of the book old Margaret looked out of"));
  EXPECT_TRUE(parse_book("").paragraphs.empty());
}

TEST(BookTasks, AnswersStandInTheBook) {
  const Book book = parse_book(book_text());
  int made = 0;
  for (const char* name : {"cloze", "retrieval", "opening", "continuation"})
    for (uint64_t i = 0; i < 20; ++i) {
      Philox random{1, i, 0}, again{1, i, 0};
      const auto task = make_book_task(*book_task(name), book, 600, random);
      if (!task) continue;
      ++made;
      EXPECT_EQ(task->instruction, make_book_task(*book_task(name), book, 600, again)->instruction);
      if (std::string(name) == "cloze") {
        EXPECT_EQ(task->output, "Margaret");
        EXPECT_NE(task->instruction.find("____"), std::string::npos);
      } else if (std::string(name) == "retrieval") {
        const std::string number = task->output.substr(10);
        const size_t at = task->instruction.find("does this stand: \"") + 18;
        const std::string sentence =
            task->instruction.substr(at, task->instruction.find('"', at) - at);
        const size_t begin = task->instruction.find("[" + number + "] ");
        ASSERT_NE(begin, std::string::npos);
        const size_t end = task->instruction.find("\n\n", begin);
        EXPECT_NE(task->instruction.substr(begin, end - begin).find(sentence), std::string::npos);
      } else {
        const auto& all = book.paragraphs;
        EXPECT_NE(std::find(all.begin(), all.end(), task->output), all.end());
        EXPECT_EQ(task->instruction.find(task->output), std::string::npos);
      }
    }
  EXPECT_GT(made, 30);
  EXPECT_FALSE(book_task("summary"));
}

// Nothing says where a chapter begins, so no paragraph is taken for the first of one.
TEST(BookTasks, ABookWithoutHeadingsHasNoOpenings) {
  std::string text = book_text();
  for (size_t at = text.find("CHAPTER"); at != text.npos; at = text.find("CHAPTER"))
    text.replace(at, 7, "Chaptre");
  const Book book = parse_book(text);
  ASSERT_TRUE(book.chapters.empty());
  for (uint64_t i = 0; i < 20; ++i) {
    Philox random{1, i, 0};
    EXPECT_FALSE(make_book_task(BookTask::opening, book, 600, random));
  }
}

}  // namespace
}  // namespace mullion
