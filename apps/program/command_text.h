// Commands as a user can paste them into a shell.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace mullion {

std::string quoted_for_shell(const std::string& text);
// A path as an argument that no program takes for an option: "./-runs" of "-runs".
std::string path_argument(const std::filesystem::path& path);
// A program of this build (and its verb), as it can be called from here: its name where the shell
// finds it, else with the way to the folder of the running program. `arguments` are quoted.
std::string command_text(const std::string& program, const std::vector<std::string>& arguments);

}  // namespace mullion
