// One reader a file form; all hand texts to DocumentReader::take, which counts.
#include "data/text_documents.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "data/text_lines.h"
#include "data/utf8.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/json.h"
#include "tensor/words.h"

namespace mullion {
namespace {

using nlohmann::json;
using std::filesystem::path;

constexpr uint64_t kMaxTextBytes = INT32_MAX;

// The extension in small letters: ".txt" of BOOK.TXT.
std::string kind_of(const path& file) { return ascii_lower(file.extension().string()); }

class DocumentReader {
 public:
  DocumentReader(const DocumentOptions& options, const DocumentUse& use)
      : options_(options), use_(use) {}

  // False where the user of the documents wants no more.
  bool read(const path& file) {
    const std::string kind = kind_of(file);
    if (kind == ".jsonl" || kind == ".ndjson") return read_json_lines(file);
    if (kind == ".json") return read_list(file);
    return take(read_text(file, kMaxTextBytes));
  }
  const DocumentCounts& counts() const { return counts_; }

 private:
  std::string read_text(const path& file, uint64_t max_bytes) const {
    return decode_text(read_whole_file(file, max_bytes), options_.encoding, file.string());
  }

  bool take(const std::string& text) {
    if (text.empty()) {
      ++counts_.empty;
      return true;
    }
    ++counts_.documents;
    counts_.bytes += text.size();
    return use_(text);
  }

  // The text of an element; throws where it has none.
  const std::string& text_of(const json& value, const std::string& where) const {
    if (value.is_string()) return value.get_ref<const std::string&>();
    CHECK_AS(Fault::bad_file, value.is_object(), where, ": neither an object nor a string");
    auto field = value.find(options_.field);
    const std::string keys = joined(value.items(), ", ", [](const auto& f) { return f.key(); });
    CHECK_AS(Fault::bad_file, field != value.end(), where, ": no field '", options_.field,
             "' (it has: ", keys.substr(0, 200), ")");
    CHECK_AS(Fault::bad_file, field->is_string(), where, ": the field '", options_.field,
             "' is not a string");
    return field->get_ref<const std::string&>();
  }

  bool read_list(const path& file) {
    JsonLimits limits;
    limits.max_bytes = size_t{1} << 30;
    json list = parse_json(read_text(file, limits.max_bytes), file.string(), limits);
    CHECK_AS(Fault::bad_file, list.is_array(), file.string(), ": not a list of documents");
    for (size_t i = 0; i < list.size(); ++i) {
      if (!take(text_of(list[i], concat(file.string(), ": element ", i)))) return false;
    }
    return true;
  }

  // UTF-8 and Latin-1 have the byte of a line break nowhere else, so lines are cut first.
  bool read_json_lines(const path& file) {
    if (options_.encoding == TextEncoding::utf8 || options_.encoding == TextEncoding::latin1)
      return read_documents(*open_file(file), options_.encoding, file);
    const std::string text = read_text(file, kMaxTextBytes);
    return read_documents(*view_bytes(std::as_bytes(std::span(text)), file.string()),
                          TextEncoding::utf8, file);
  }

  bool read_documents(const ByteSource& bytes, TextEncoding encoding, const path& file) {
    const uint64_t bad_before = counts_.bad;
    uint64_t lines = 0;
    const bool more = read_lines(bytes, options_.max_line_bytes, [&](TextLine line) {
      lines = line.number;
      const std::string text =
          decode_text(std::move(line.bytes), encoding, file.string(), line.offset);
      return read_line(text, file, line.number);
    });
    const uint64_t bad = counts_.bad - bad_before;
    CHECK_AS(Fault::bad_file,
             !more || static_cast<double>(bad) <= options_.max_bad_fraction * lines, file.string(),
             ": ", bad, " of ", lines, " lines are bad; the first: ", counts_.first_bad);
    return more;
  }

  bool read_line(std::string_view text, const path& file, uint64_t number) {
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) return true;
    const std::string where = concat(file.string(), ": line ", number);
    json value;
    std::string document;
    try {
      value = parse_json(text, where);
      document = text_of(value, where);
    } catch (const Error& error) {
      if (counts_.bad++ == 0) counts_.first_bad = error.what();
      return true;
    }
    return take(document);
  }

  const DocumentOptions& options_;
  const DocumentUse& use_;
  DocumentCounts counts_;
};

}  // namespace

bool is_document_name(const path& file) {
  static constexpr std::array kKinds = {".txt",  ".text",  ".md",    ".markdown",
                                        ".json", ".jsonl", ".ndjson"};
  return std::find(kKinds.begin(), kKinds.end(), kind_of(file)) != kKinds.end();
}

DocumentFiles document_files(const std::vector<path>& paths) {
  DocumentFiles result;
  for (const path& entry : paths) {
    CHECK_AS(Fault::bad_file, exists(entry), entry.string(), ": no such file or folder");
    if (!is_directory(entry)) {
      result.files.push_back(entry);
      continue;
    }
    std::vector<path> found;
    for (const auto& item : std::filesystem::directory_iterator(entry)) {
      if (item.is_regular_file() && is_document_name(item.path())) {
        found.push_back(item.path());
        continue;
      }
      const std::string kind = kind_of(item.path());
      const bool there = item.exists();
      ++result.left_out[!there                    ? "broken links"
                        : item.is_directory()     ? "folders"
                        : !item.is_regular_file() ? "devices and pipes"
                        : kind.empty()            ? "no extension"
                                                  : kind];
    }
    CHECK_AS(Fault::bad_file, !found.empty(), entry.string(),
             ": no .txt, .md, .json or .jsonl files (it ",
             result.left_out.empty() ? "is empty" : "has: " + describe_left_out(result), ")");
    std::sort(found.begin(), found.end());
    result.files.insert(result.files.end(), found.begin(), found.end());
  }
  return result;
}

std::string describe_left_out(const DocumentFiles& files) {
  return joined(files.left_out, ", ",
                [](const auto& kind) { return concat(kind.second, " ", kind.first); });
}

DocumentCounts read_documents(const std::vector<path>& files, const DocumentOptions& options,
                              const DocumentUse& use) {
  DocumentReader reader(options, use);
  for (const path& file : files) {
    if (!reader.read(file)) break;
  }
  return reader.counts();
}

}  // namespace mullion
