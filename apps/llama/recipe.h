// What data_llama compose makes, from a TOML file:
//
//   [recipe]  name, rows (of all sources), seed, min_tokens, max_tokens
//   [[source]]  name, rows, files (patterns, beside the recipe or in --sources), licence, and
//   either
//     task = "cloze" | "retrieval" | "opening" | "continuation"    made of books
//     or none: the files are instructions in any shape of data/conversation.h
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/book_tasks.h"

namespace mullion {

struct RecipeSource {
  std::string name, licence, url;
  int64_t rows = 0;
  std::vector<std::string> files;
  std::optional<BookTask> task;
};

struct Recipe {
  std::string name;
  int64_t rows = 0;
  uint64_t seed = 42;
  int64_t min_tokens = 0, max_tokens = 0;  // of instruction and answer; max 0: no bound
  std::vector<RecipeSource> sources;
};

// Error(usage) names file, line and key: unknown keys, wrong types, numbers of rows that do not add
// up.
Recipe read_recipe(const std::filesystem::path& file);
// The same proportions in other numbers, by largest remainder.
void scale_rows(Recipe& recipe, int64_t rows);

}  // namespace mullion
