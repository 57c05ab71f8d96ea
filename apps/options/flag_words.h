// A value as it is written on a command line.
#pragma once
#include <string>
#include <vector>

#include "apps/options/options.h"

namespace mullion {

// {"--no-shuffle"}, {"--lr", "0.1"}, {"--topics", "5,10"}.
std::vector<std::string> flag_words(const OptionSpec& spec, const OptionValue& value);

}  // namespace mullion
