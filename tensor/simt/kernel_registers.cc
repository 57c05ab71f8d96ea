// The list compiled in, and the program's own symbols, from which a function's name is found.
#include "tensor/simt/kernel_registers.h"

#include <cxxabi.h>
#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <vector>

#include "tensor/check.h"
#include "tensor/simt/device_model.h"

namespace mullion::simt {
namespace {

struct Row {
  const char* kernel;
  int registers;
};
constexpr Row kRows[] = {
#include "tensor/simt/kernel_registers.inc"
};

// "void (anonymous namespace)::forward_kernel<64, true>(Args)" -> "forward_kernel".
std::string base_name(const char* mangled) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(mangled, nullptr, nullptr, &status), std::free);
  if (!text) return "";
  const std::string name = text.get();
  const size_t suffix = name.find("_kernel");
  if (suffix == std::string::npos) return "";
  const size_t end = name.find_first_of("<( ", suffix);
  const size_t begin = name.find_last_of(": ", suffix) + 1;
  return name.substr(begin, end - begin);
}

template <typename T>
std::vector<T> read(std::ifstream& file, uint64_t offset, uint64_t bytes) {
  std::vector<T> values(bytes / sizeof(T));
  file.seekg(static_cast<std::streamoff>(offset));
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(bytes));
  CHECK(file.good(), "the emulator cannot read the symbols of its own program");
  return values;
}

// Where the program was loaded; the first entry of the list is the program itself.
uintptr_t load_address() {
  uintptr_t address = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* result) {
        *static_cast<uintptr_t*>(result) = info->dlpi_addr;
        return 1;
      },
      &address);
  return address;
}

// Kernels have internal linkage: their names are in the program's own table of symbols only. Of
// functions that the compiler made one of, the least registers count.
std::map<const void*, Row> kernels_of_program() {
  std::ifstream file("/proc/self/exe", std::ios::binary);
  const auto header = read<ElfW(Ehdr)>(file, 0, sizeof(ElfW(Ehdr))).at(0);
  const auto sections =
      read<ElfW(Shdr)>(file, header.e_shoff, uint64_t{header.e_shnum} * sizeof(ElfW(Shdr)));
  std::map<const void*, Row> found;
  for (const auto& section : sections) {
    if (section.sh_type != SHT_SYMTAB) continue;
    const auto& strings = sections.at(section.sh_link);
    const auto names = read<char>(file, strings.sh_offset, strings.sh_size);
    for (const auto& symbol : read<ElfW(Sym)>(file, section.sh_offset, section.sh_size)) {
      const char* mangled = names.data() + symbol.st_name;
      if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || !std::strstr(mangled, "_kernel")) continue;
      const std::string name = base_name(mangled);
      const auto* row = std::find_if(std::begin(kRows), std::end(kRows),
                                     [&](const Row& r) { return name == r.kernel; });
      const Row its = row == std::end(kRows) ? Row{"", 0} : *row;
      const auto* address = reinterpret_cast<const void*>(load_address() + symbol.st_value);
      const auto [place, is_new] = found.emplace(address, its);
      if (!is_new && its.registers < place->second.registers) place->second = its;
    }
  }
  return found;
}

}  // namespace

std::string why_too_many_threads(const void* function, int threads) {
  static const auto* const kernels = new auto(kernels_of_program());
  const auto found = kernels->find(function);
  if (found == kernels->end() || found->second.registers == 0) return "";
  const auto& [kernel, registers] = found->second;
  const int most = Limits::kRegistersPerBlock / registers / 32 * 32;
  if (threads <= most) return "";
  return concat(threads, " threads of ", kernel, ", which needs at least ", registers,
                " registers a thread; a block has ", Limits::kRegistersPerBlock, ", for ", most,
                " threads");
}

}  // namespace mullion::simt
