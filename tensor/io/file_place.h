// Whether files and folders can be written where they are asked for, to be found out before the
// work whose results they hold. Nothing is left behind.
#pragma once
#include <filesystem>
#include <string_view>

namespace mullion {

// Of an AtomicFile at `path`: Error(usage) where that is a folder, Error(disk) where the folder
// that it would be in is not there or takes no file. `ending`: of the one format that is written,
// ".png"; Error(usage) where the name has another.
void check_file_place(const std::filesystem::path& path, std::string_view ending = "");
// Of an AtomicFolder: Error(usage) where it exists and is no empty folder, Error(disk) as above.
void check_folder_place(const std::filesystem::path& path);

// Error(disk) where `folder`, which `path` is to be written into, is not there.
void refuse_missing_folder(const std::filesystem::path& folder, const std::filesystem::path& path);

}  // namespace mullion
