// Both forms become calls of one function a row, with the row's place for errors.
#include "apps/llama/evaluation/json_rows.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/json.h"

namespace mullion {

namespace {
using Use = std::function<void(const nlohmann::json&, const std::string& where)>;

void each_of(std::string_view text, const std::string& name, bool is_list, const Use& use) {
  size_t rows = 0;
  const auto row = [&](const nlohmann::json& json, const std::string& where) {
    CHECK_AS(Fault::bad_file, json.is_object(), where, ": not an object");
    ++rows;
    use(json, where);
  };
  constexpr std::string_view kMark = "\xEF\xBB\xBF";  // a byte-order mark, as of text: dropped
  if (text.starts_with(kMark)) text.remove_prefix(kMark.size());
  if (is_list) {
    const nlohmann::json list = parse_json(text, name);
    CHECK_AS(Fault::bad_file, list.is_array(), name, ": not a list of rows");
    for (size_t i = 0; i < list.size(); ++i) row(list[i], concat(name, ": row ", i + 1));
  } else {
    size_t line = 0;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      const std::string where = concat(name, ": line ", ++line);
      if (text.find_first_not_of(" \t\r", begin) < end)
        row(parse_json(text.substr(begin, end - begin), where), where);
      begin = end + 1;
    }
  }
  CHECK_AS(Fault::bad_file, rows > 0, name, ": no rows");
}
}  // namespace

void each_json_row(const std::filesystem::path& file, const Use& use) {
  constexpr uint64_t kMostBytes = uint64_t{1} << 30;
  each_of(read_whole_file(file, kMostBytes), file.string(), file.extension() == ".json", use);
}

void each_json_line(std::string_view text, const std::string& name, const Use& use) {
  each_of(text, name, false, use);
}

}  // namespace mullion
