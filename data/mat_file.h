// Tables in MATLAB's MAT-files of level 5, as far as ImageNet's devkit needs them: one array of
// structs with text and numbers.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace mullion {

// gzip or zlib data unpacked; throws bad_file for anything wrong and for more than `most` bytes.
std::string unpack_zlib(std::string_view packed, uint64_t most, const std::string& name);

// One element of the array: its fields that are text, or one number (written as an integer).
using MatRecord = std::map<std::string, std::string>;
// The elements of the struct array `variable` of the file's bytes. Throws bad_file.
std::vector<MatRecord> read_mat_structs(std::string_view file, const std::string& variable,
                                        const std::string& name);

}  // namespace mullion
