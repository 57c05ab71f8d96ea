// Which devices a build serves, by CUDA's rules of compatibility (CUDA C++ programming guide,
// "Application compatibility"). The build has machine code for each capability of a list, and PTX
// of the oldest unless it was configured otherwise: "80,90a+ptx" (MULLION_CUDA_TARGETS in
// cmake/MullionCuda.cmake).
#pragma once
#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/check.h"

namespace mullion::cuda {

struct Target {
  int major = 0, minor = 0;
  char kind = ' ';  // 'a': for this capability alone; 'f': for its family
};
struct Targets {
  std::vector<Target> machine;
  bool ptx = false;  // of the first
};
inline Targets targets_of(std::string_view text) {
  constexpr std::string_view kPtx = "+ptx";
  Targets targets;
  targets.ptx = text.ends_with(kPtx);
  if (targets.ptx) text.remove_suffix(kPtx.size());
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view one = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), one.size() + 1));
    int number = 0;
    const char* const end = one.data() + one.size();
    const auto [after, status] = std::from_chars(one.data(), end, number);
    CHECK(status == std::errc() && number >= 10 && end - after <= 1, "no list of targets: ", text);
    targets.machine.push_back({number / 10, number % 10, after == end ? ' ' : *after});
  }
  CHECK(!targets.machine.empty(), "a list of targets without a capability");
  return targets;
}

// What the driver runs on a device: machine code of its own capability or of an earlier one with
// the same major number, else what it translates from PTX, which every later device takes.
enum class Code : uint8_t { none, ptx, machine };
inline Code code_for(std::string_view text, int major, int minor) {
  const Targets targets = targets_of(text);
  const bool machine =
      std::any_of(targets.machine.begin(), targets.machine.end(), [&](const Target& t) {
        return t.major == major && (t.kind == 'a' ? t.minor == minor : t.minor <= minor);
      });
  if (machine) return Code::machine;
  const Target oldest = targets.machine.front();
  const bool later = major != oldest.major ? major > oldest.major : minor >= oldest.minor;
  return targets.ptx && later ? Code::ptx : Code::none;
}

// "machine code for sm_80 and sm_90a, PTX of compute_80 for later devices".
inline std::string code_of(std::string_view text) {
  const Targets targets = targets_of(text);
  const auto number = [](const Target& t) { return concat(t.major, t.minor); };
  std::string names;
  for (size_t i = 0; i < targets.machine.size(); ++i) {
    names += i == 0 ? "" : i + 1 < targets.machine.size() ? ", " : " and ";
    names += "sm_" + number(targets.machine[i]);
    if (targets.machine[i].kind != ' ') names += targets.machine[i].kind;
  }
  if (!targets.ptx) return "machine code for " + names;
  return concat("machine code for ", names, ", PTX of compute_", number(targets.machine.front()),
                " for later devices");
}

}  // namespace mullion::cuda
