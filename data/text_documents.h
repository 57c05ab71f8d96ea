// Documents to tokenize, from files and folders: a text file (.txt, .md or any other name) is one
// document, a line of a .jsonl file is one (its text field, or a bare string), and so is an
// element of the list in a .json file. Line ends stay as they are. JSONL is streamed; lines are
// bounded.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "data/text_encoding.h"

namespace mullion {

struct DocumentOptions {
  std::string field = "text";
  TextEncoding encoding = TextEncoding::utf8;  // anything else in a file is an error
  uint64_t max_line_bytes = 16 << 20;
  double max_bad_fraction = 0.01;  // of the lines of a file; more are an error
};

struct DocumentCounts {
  uint64_t documents = 0;
  uint64_t empty = 0;     // without any text: skipped
  uint64_t bad = 0;       // lines that are not JSON or have no text: skipped
  uint64_t bytes = 0;     // of their text as UTF-8
  std::string first_bad;  // "FILE: line N: why"
};

// Called with each document's text; false ends the reading.
using DocumentUse = std::function<bool(const std::string& text)>;

struct DocumentFiles {
  std::vector<std::filesystem::path> files;
  // What the folders among the paths hold besides, by kind: ".webp", "folders", "no extension".
  std::map<std::string, uint64_t> left_out;
};

// Whether a folder's file of this name is taken: .txt, .text, .md, .markdown, .json, .jsonl and
// .ndjson, in small or capital letters.
bool is_document_name(const std::filesystem::path& file);
// The files that `paths` stand for: a folder gives those of is_document_name(), by name, without
// those of its own folders. Error(bad_file) where a path does not exist or a folder has none.
DocumentFiles document_files(const std::vector<std::filesystem::path>& paths);
// "2 .webp, 1 folders"; "" where nothing was left out.
std::string describe_left_out(const DocumentFiles& files);

DocumentCounts read_documents(const std::vector<std::filesystem::path>& files,
                              const DocumentOptions& options, const DocumentUse& use);

}  // namespace mullion
