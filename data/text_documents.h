// Documents to tokenize, from files and folders: a .txt file (or one of any other name) is one
// document, a line of a .jsonl file is one (its text field, or a bare string), and so is an
// element of the list in a .json file. JSONL is streamed; lines are bounded.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace mullion {

struct DocumentOptions {
  std::string field = "text";
  uint64_t max_line_bytes = 16 << 20;
  double max_bad_fraction = 0.01;  // of the lines of a file; more are an error
};

struct DocumentCounts {
  uint64_t documents = 0;
  uint64_t empty = 0;  // without any text: skipped
  uint64_t bad = 0;    // lines that are not JSON or have no text: skipped
  uint64_t bytes = 0;
  std::string first_bad;  // "FILE: line N: why"
};

// Called with each document's text; false ends the reading.
using DocumentUse = std::function<bool(const std::string& text)>;

// The files that `paths` stand for: a folder gives its .txt, .json and .jsonl files, by name.
std::vector<std::filesystem::path> document_files(const std::vector<std::filesystem::path>& paths);

DocumentCounts read_documents(const std::vector<std::filesystem::path>& files,
                              const DocumentOptions& options, const DocumentUse& use);

}  // namespace mullion
