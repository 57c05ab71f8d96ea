// Runs a harness over the files of its corpus without libFuzzer: `replay_X DIR...`. Each file as it
// is, then cut at up to 64 places and with one bit flipped at up to 256, so that the ordinary
// tests, and those under the sanitizers, look a little beyond the corpus. A harness that finds
// something traps or throws, and so ends the program.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {
constexpr size_t kCuts = 64, kFlips = 256;
size_t runs = 0;

// A copy of exactly this size, so that the address sanitizer sees a read beyond the end.
void run(const std::vector<uint8_t>& bytes) {
  const std::vector<uint8_t> exact(bytes.begin(), bytes.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
  ++runs;
}

void run_around(const std::vector<uint8_t>& bytes) {
  run(bytes);
  const size_t size = bytes.size();
  for (size_t i = 0; i < std::min(kCuts, size); ++i) {
    const auto end = static_cast<std::ptrdiff_t>(i * size / std::min(kCuts, size));
    run({bytes.begin(), bytes.begin() + end});
  }
  std::vector<uint8_t> changed = bytes;
  for (size_t i = 0; i < std::min(kFlips, size); ++i) {
    const size_t at = i * size / std::min(kFlips, size);
    const auto bit = static_cast<uint8_t>(1u << (i % 8));
    changed[at] ^= bit;
    run(changed);
    changed[at] ^= bit;
  }
}
}  // namespace

int main(int argc, char** argv) {
  size_t files = 0;
  for (int i = 1; i < argc; ++i) {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(argv[i]))
      paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    for (const auto& path : paths) {
      std::printf("%s\n", path.c_str());
      std::fflush(stdout);  // names the file where the next line is a crash
      std::ifstream file(path, std::ios::binary);
      run_around({std::istreambuf_iterator<char>(file), {}});
      ++files;
    }
  }
  std::printf("%zu files, %zu inputs\n", files, runs);
  return files > 0 ? 0 : 1;
}
