// The known name closest to a misspelled one, for "did you mean" in errors.
// Distance: Damerau-Levenshtein (insert, delete, change, swap neighbours), case ignored.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace mullion {

size_t edit_distance(std::string_view a, std::string_view b);
// "" where nothing known is within a third of the name's length (at least 2).
std::string nearest_name(std::string_view name, const std::vector<std::string>& known);
// A hint: "did you mean X?"; `otherwise` where no name is near.
std::string did_you_mean(std::string_view name, const std::vector<std::string>& known,
                         const std::string& otherwise = "");

}  // namespace mullion
