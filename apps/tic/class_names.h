// Names for people of classes that are called by numbers, as ImageNet's are by WordNet's ids.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "apps/options/options.h"

namespace mullion {

// Of a class whose folder is `id`: "n01440764 tench", or the id alone where it has no name.
std::string shown_class(const std::string& id, const std::string& name);

// --class-names; `what` says where else names come from.
void add_class_names_option(OptionTable& table, const std::string& what);

// The file beside data: imagenet_class_index.json, synset_words.txt or LOC_synset_mapping.txt.
std::optional<std::filesystem::path> class_names_beside(const std::filesystem::path& folder);

// For each class its name from a file, "" where it has none: JSON {"0": ["n01440764", "tench"]} as
// Keras has it, or lines "n01440764 tench, Tinca tinca". Error(bad_file) with the place of what is
// neither.
std::vector<std::string> read_class_names(const std::filesystem::path& file,
                                          const std::vector<std::string>& classes);

// By --class-names, else by a file beside `folder`; says which, and how many have one. Empty: none.
// An error where a file was asked for and no class is in it.
std::vector<std::string> class_names(const Options& options, const std::filesystem::path& folder,
                                     const std::vector<std::string>& classes);

}  // namespace mullion
