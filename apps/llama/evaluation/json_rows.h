// Rows of an evaluation: the lines of a .jsonl file, or the list in a .json file.
#pragma once
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace mullion {

// Calls use(object, where) for each row in order, `where` for errors: "FILE: line 3".
// Error(bad_file) for a row that is no object, and where there is none.
void each_json_row(const std::filesystem::path& file,
                   const std::function<void(const nlohmann::json&, const std::string& where)>& use);
// The same for lines that are in memory; `name` is what errors call them.
void each_json_line(
    std::string_view text, const std::string& name,
    const std::function<void(const nlohmann::json&, const std::string& where)>& use);

}  // namespace mullion
