// Instructions made from books, whose answers stand in the books themselves: no model and no person
// has to write one.
//
//   cloze         the passage, a sentence of it with a name left out: which is it?
//   retrieval     numbered paragraphs and a sentence of one: the number
//   opening       a chapter without its first paragraph: how does it begin?
//   continuation  a passage: how does it go on?
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/random.h"

namespace mullion {

enum class BookTask : uint8_t { cloze, retrieval, opening, continuation };
// By name; none for any other.
std::optional<BookTask> book_task(std::string_view name);

struct Book {
  std::vector<std::string> paragraphs;  // each on one line
  std::vector<size_t> chapters;         // the first paragraph after each heading
};
// Paragraphs are what blank lines part. Headings ("CHAPTER IV") are none.
Book parse_book(std::string_view text);

struct Instruction {
  std::string instruction, output;
};
// A task over about `characters` of the book, by these random numbers. None where the place drawn
// does not give one: no name twice, too near the end.
std::optional<Instruction> make_book_task(BookTask task, const Book& book, size_t characters,
                                          Philox& random);

}  // namespace mullion
