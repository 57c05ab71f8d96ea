// What would write there is begun and taken back, with its checks.
#include "tensor/io/file_place.h"

#include "tensor/check.h"
#include "tensor/io/atomic_folder.h"
#include "tensor/io/file.h"

namespace mullion {

namespace fs = std::filesystem;

void check_file_place(const fs::path& path, std::string_view ending) {
  CHECK_AS(Fault::usage, ending.empty() || path.extension() == ending, path.string(),
           ": a name that ends in ", ending, " is needed, which is what is written");
  AtomicFile{path};
}
void check_folder_place(const fs::path& path) { AtomicFolder{path}; }

void refuse_missing_folder(const fs::path& folder, const fs::path& path) {
  std::error_code ignored;
  CHECK_AS(Fault::disk, fs::status(folder, ignored).type() != fs::file_type::not_found,
           path.string(), ": there is no folder ", folder.string());
}

}  // namespace mullion
