// What flags of other tools (Hugging Face's Trainer and PEFT, timm, llama.cpp) are called here.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace mullion {

// What to write instead of `flag`, "--lr" for "--learning-rate", with a word on how it differs;
// "" where the flag is of no such tool, or nothing among `known` does its work.
std::string translated_flag(std::string_view flag, const std::vector<std::string>& known);

}  // namespace mullion
