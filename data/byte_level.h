// The alphabet of byte-level BPE (GPT-2): each byte is written as one printable character, itself
// for '!' to '~', U+00A1 to U+00AC and U+00AE to U+00FF, and U+0100 upwards for the other 68.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mullion {

// The code point of each byte.
const std::array<uint16_t, 256>& byte_level_alphabet();
// "Ġthe" -> " the"; none where a character is not of the alphabet.
std::optional<std::string> byte_level_decode(std::string_view text);
std::string byte_level_encode(std::string_view bytes);

}  // namespace mullion
