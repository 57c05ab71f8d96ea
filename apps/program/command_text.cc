// Arguments quoted where a shell would read them otherwise; the program by the name that finds it.
#include "apps/program/command_text.h"

#include <cstdlib>
#include <sstream>

namespace mullion {

namespace {
namespace fs = std::filesystem;

bool in_search_path(const fs::path& folder) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path ? path : "");
  std::error_code absent;
  for (std::string each; std::getline(folders, each, ':');)
    if (!each.empty() && fs::equivalent(each, folder, absent)) return true;
  return false;
}
}  // namespace

std::string quoted_for_shell(const std::string& text) {
  constexpr char kPlain[] =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=,:+@%";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string path_argument(const fs::path& path) {
  return path.string().starts_with('-') ? "./" + path.string() : path.string();
}

std::string command_text(const std::string& program, const std::vector<std::string>& arguments) {
  std::error_code error;
  const fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  std::string text = program;
  if (!error && !in_search_path(folder)) {
    const fs::path way = fs::proximate(folder, error);
    if (!error) text = quoted_for_shell(way.string()) + "/" + program;
  }
  for (const std::string& argument : arguments) text += " " + quoted_for_shell(argument);
  return text;
}

}  // namespace mullion
