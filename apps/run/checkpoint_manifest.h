// The text of a checkpoint's manifest, and the names of its files.
#pragma once
#include <string>

namespace mullion {

struct CheckpointInfo;
inline constexpr char kManifestName[] = "COMPLETE";

std::string manifest_text(const CheckpointInfo& info);
// One file, or a file in one folder; nothing hidden, nothing that leads out. Else Error(bad_file).
void check_file_name(const std::string& name, const std::string& where);

}  // namespace mullion
