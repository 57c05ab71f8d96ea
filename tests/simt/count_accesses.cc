// What the main kernels ask of the memory of a device, counted by the emulator: passes over the
// banks of shared memory, sectors of global memory, and how many there would be at least. Prints
// the table of docs/gpu.md.
//   simt_count_accesses [part of a case's name] [--places]
// --places: also where in the program there are more than the least, for addr2line.
#include <cstdio>
#include <cstring>
#include <exception>

#include "tests/simt/access_cases.h"

int main(int argc, char** argv) {
  using namespace mullion;
  std::string part;
  bool places = false;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--places") == 0)
      places = true;
    else
      part = argv[i];
  }
  try {
    const auto kernels = test::count_main_kernels(part);
    std::fputs(simt::table_of_accesses(kernels).c_str(), stdout);
    if (!places) return 0;
    for (const auto& [name, kernel] : kernels)
      if (const std::string lines = simt::places_of_accesses(kernel, 12); !lines.empty())
        std::printf("\n%s\n%s", name.c_str(), lines.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
