// SHA-256 (FIPS 180-4): fingerprints of tokenizers, token files and checkpoints.
//   Sha256 hash; hash.update(bytes, n); std::string hex = hash.hex();
// Portable code, about 300 MB/s; no key material passes here, so timing is no concern.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace mullion {

class Sha256 {
 public:
  Sha256();
  // Adds bytes to the message; may be called any number of times.
  void update(const void* data, size_t size);
  void update(std::string_view bytes) { update(bytes.data(), bytes.size()); }
  // Ends the message and returns the digest; call one of these two, once.
  std::array<uint8_t, 32> digest();
  std::string hex();

 private:
  void compress(const uint8_t* blocks, size_t count);

  std::array<uint32_t, 8> state_;
  std::array<uint8_t, 64> pending_;
  uint64_t total_ = 0;  // bytes so far
};

// 64 lower-case hexadecimal digits.
std::string sha256_hex(std::string_view bytes);
// The same of a whole file, read in blocks; throws Fault::disk where it cannot be read.
std::string sha256_file(const std::filesystem::path& path);

}  // namespace mullion
