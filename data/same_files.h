// One file that stands in a list more than once: by the same path, by another, or by a link.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace mullion {

// A sentence for each that came before: "a.txt is there again", "link.txt is a.txt again". What is
// no regular file is passed over.
std::vector<std::string> repeated_files(const std::vector<std::filesystem::path>& files);

}  // namespace mullion
