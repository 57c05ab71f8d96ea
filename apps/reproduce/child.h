// A program that stands beside this one, run to its end.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace mullion {

struct ChildResult {
  int code = 0;      // its exit code; 128 + n where signal n ended it
  std::string last;  // the last line of stdout
};

// The folder that this program is in, where its siblings are.
std::filesystem::path program_folder();

// stderr is appended to `log`. A request to stop (signals.h) is passed on to it, once, as SIGTERM;
// it then saves and ends as it does on its own. It also gets one if this process dies.
ChildResult run_child(const std::filesystem::path& program,
                      const std::vector<std::string>& arguments, const std::filesystem::path& log);

std::string quoted_command(const std::string& program, const std::vector<std::string>& arguments);

}  // namespace mullion
