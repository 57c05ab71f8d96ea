// Sizes in bytes as people write them: "5GB", "256MB", "20kB", "512B". One syntax in all programs,
// that of Hugging Face's max_shard_size: decimal units, a fraction is allowed.
#pragma once
#include <cstdint>
#include <string>

namespace mullion {

// Error(usage) that names the flag, for another text and for sizes outside [low, high].
uint64_t parse_bytes(const std::string& text, const std::string& flag, double low, double high);
// The shortest text that parse_bytes() reads as this size.
std::string bytes_text(double bytes);

}  // namespace mullion
