// COPA's own file: <item id asks-for most-plausible-alternative><p/><a1/><a2/></item>.
#pragma once
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace mullion {

// Calls use(row, where) for each item in order: {"id", "premise", "question", "choice1", "choice2",
// "label"} as the task's JSON has them, `where` for errors: "FILE: line 3". Error(bad_file) for
// what is no such XML, and where there is no item.
void each_copa_item(
    const std::filesystem::path& file,
    const std::function<void(const nlohmann::json&, const std::string& where)>& use);

}  // namespace mullion
