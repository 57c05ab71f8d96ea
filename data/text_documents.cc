// One reader a file form; all hand texts to DocumentReader::take, which counts.
#include "data/text_documents.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/json.h"

namespace mullion {
namespace {

using nlohmann::json;
using std::filesystem::path;

constexpr uint64_t kMaxTextBytes = INT32_MAX, kBlockBytes = 1 << 20;

class DocumentReader {
 public:
  DocumentReader(const DocumentOptions& options, const DocumentUse& use)
      : options_(options), use_(use) {}

  // False where the user of the documents wants no more.
  bool read(const path& file) {
    if (file.extension() == ".jsonl") return read_lines(file);
    if (file.extension() == ".json") return read_list(file);
    return take(read_whole_file(file, kMaxTextBytes));
  }
  const DocumentCounts& counts() const { return counts_; }

 private:
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
    std::string keys;
    for (const auto& [key, unused] : value.items()) keys += (keys.empty() ? "" : ", ") + key;
    CHECK_AS(Fault::bad_file, field != value.end(), where, ": no field '", options_.field,
             "' (it has: ", keys.substr(0, 200), ")");
    CHECK_AS(Fault::bad_file, field->is_string(), where, ": the field '", options_.field,
             "' is not a string");
    return field->get_ref<const std::string&>();
  }

  bool read_list(const path& file) {
    JsonLimits limits;
    limits.max_bytes = size_t{1} << 30;
    json list = read_json_file(file, limits);
    CHECK_AS(Fault::bad_file, list.is_array(), file.string(), ": not a list of documents");
    for (size_t i = 0; i < list.size(); ++i) {
      if (!take(text_of(list[i], concat(file.string(), ": element ", i)))) return false;
    }
    return true;
  }

  bool read_lines(const path& file) {
    auto bytes = open_file(file);
    std::string line, block;
    uint64_t number = 0, bad_before = counts_.bad;
    for (uint64_t at = 0; at < bytes->size(); at += block.size()) {
      block.resize(std::min(kBlockBytes, bytes->size() - at));
      bytes->read_at(at, std::as_writable_bytes(std::span(block)));
      for (size_t begin = 0; begin < block.size();) {
        size_t end = block.find('\n', begin);
        bool ends = end != std::string::npos;
        line.append(block, begin, (ends ? end : block.size()) - begin);
        CHECK_AS(Fault::bad_file, line.size() <= options_.max_line_bytes, file.string(), ": line ",
                 number + 1, " has more than ", options_.max_line_bytes, " bytes");
        begin = ends ? end + 1 : block.size();
        if (!ends) continue;
        if (!read_line(line, file, ++number)) return false;
        line.clear();
      }
    }
    if (!line.empty() && !read_line(line, file, ++number)) return false;
    uint64_t bad = counts_.bad - bad_before;
    CHECK_AS(Fault::bad_file, static_cast<double>(bad) <= options_.max_bad_fraction * number,
             file.string(), ": ", bad, " of ", number,
             " lines are bad; the first: ", counts_.first_bad);
    return true;
  }

  bool read_line(const std::string& line, const path& file, uint64_t number) {
    std::string_view text = line;
    if (number == 1 && text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
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

std::vector<path> document_files(const std::vector<path>& paths) {
  std::vector<path> files;
  for (const path& entry : paths) {
    CHECK_AS(Fault::bad_file, exists(entry), entry.string(), ": no such file or folder");
    if (!is_directory(entry)) {
      files.push_back(entry);
      continue;
    }
    std::vector<path> found;
    for (const auto& item : std::filesystem::directory_iterator(entry)) {
      std::string kind = item.path().extension().string();
      bool text = kind == ".txt" || kind == ".json" || kind == ".jsonl";
      if (text && item.is_regular_file()) found.push_back(item.path());
    }
    CHECK_AS(Fault::bad_file, !found.empty(), entry.string(), ": no .txt, .json or .jsonl files");
    std::sort(found.begin(), found.end());
    files.insert(files.end(), found.begin(), found.end());
  }
  return files;
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
