#include "apps/llama/evaluation/json_rows.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/json.h"

namespace mullion {

void each_json_row(
    const std::filesystem::path& file,
    const std::function<void(const nlohmann::json&, const std::string& where)>& use) {
  constexpr uint64_t kMostBytes = uint64_t{1} << 30;
  size_t rows = 0;
  const auto row = [&](const nlohmann::json& json, const std::string& where) {
    CHECK_AS(Fault::bad_file, json.is_object(), where, ": not an object");
    ++rows;
    use(json, where);
  };
  constexpr std::string_view kMark = "\xEF\xBB\xBF";  // a byte-order mark, as of text: dropped
  const std::string bytes = read_whole_file(file, kMostBytes);
  const std::string_view text = std::string_view(bytes).substr(bytes.starts_with(kMark) ? 3 : 0);
  if (file.extension() == ".json") {
    const nlohmann::json list = parse_json(text, file.string());
    CHECK_AS(Fault::bad_file, list.is_array(), file.string(), ": not a list of rows");
    for (size_t i = 0; i < list.size(); ++i) row(list[i], concat(file.string(), ": row ", i + 1));
  } else {
    size_t line = 0;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      const std::string where = concat(file.string(), ": line ", ++line);
      if (text.find_first_not_of(" \t\r", begin) < end)
        row(parse_json(text.substr(begin, end - begin), where), where);
      begin = end + 1;
    }
  }
  CHECK_AS(Fault::bad_file, rows > 0, file.string(), ": no rows");
}

}  // namespace mullion
