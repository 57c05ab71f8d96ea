// The environment's text parsed into the model; limits by compute capability.
#include "tensor/simt/device_model.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <string>

#include "tensor/check.h"

namespace mullion::simt {
namespace {

struct Row {
  Capability capability;
  Limits limits;
};
constexpr Row kRows[] = {
    {{7, 5}, {64 << 10, 64 << 10, 1024, 16}},    {{8, 0}, {163 << 10, 164 << 10, 2048, 32}},
    {{8, 6}, {99 << 10, 100 << 10, 1536, 16}},   {{8, 7}, {163 << 10, 164 << 10, 1536, 16}},
    {{8, 9}, {99 << 10, 100 << 10, 1536, 24}},   {{9, 0}, {227 << 10, 228 << 10, 2048, 32}},
    {{10, 0}, {227 << 10, 228 << 10, 2048, 32}}, {{10, 3}, {227 << 10, 228 << 10, 2048, 32}},
    {{12, 0}, {99 << 10, 100 << 10, 1536, 24}},  {{12, 1}, {99 << 10, 100 << 10, 1536, 24}},
};

std::vector<Capability> capabilities_of(const std::string& text) {
  std::vector<Capability> result;
  std::istringstream in(text);
  for (std::string one; std::getline(in, one, '/');) {
    std::istringstream numbers(one);
    Capability c;
    char dot = 0;
    numbers >> c.major >> dot >> c.minor;
    CHECK(!numbers.fail() && dot == '.' && numbers.peek() == EOF,
          "MULLION_SIMT_DEVICE: capability=", text, " is not like 9.0 or 9.0/8.6");
    result.push_back(c);
  }
  CHECK(!result.empty(), "MULLION_SIMT_DEVICE: capability= names none");
  return result;
}

DeviceModel model_of_environment() {
  DeviceModel model;
  const char* text = std::getenv("MULLION_SIMT_DEVICE");
  std::istringstream in(text ? text : "");
  for (std::string item; std::getline(in, item, ',');) {
    const std::string key = item.substr(0, item.find('='));
    const std::string rest = item.substr(std::min(item.size(), key.size() + 1));
    if (key == "capability") {
      model.capabilities = capabilities_of(rest);
      continue;
    }
    std::istringstream value(rest);
    if (key == "devices")
      value >> model.devices;
    else if (key == "first")
      value >> model.first;
    else if (key == "driver")
      value >> model.driver;
    else if (key == "memory")
      value >> model.memory;
    else if (key == "nccl")
      value >> model.nccl;
    else if (key == "shared")
      value >> model.shared_per_block;
    else
      throw Error("MULLION_SIMT_DEVICE: there is no " + key, Fault::usage);
    CHECK(!value.fail() && value.peek() == EOF, "MULLION_SIMT_DEVICE: ", item);
  }
  return model;
}

}  // namespace

DeviceModel& device_model() {
  static auto* model = new DeviceModel(model_of_environment());  // devices outlive main()
  return *model;
}

Capability capability_of(int device) {
  const auto& all = device_model().capabilities;
  const auto place = static_cast<size_t>(std::max(device, 0));
  return all[std::min(place, all.size() - 1)];
}

Limits limits_of(int device) {
  const Capability c = capability_of(device);
  const auto* row = std::find_if(std::begin(kRows), std::end(kRows), [&](const Row& r) {
    return r.capability.major == c.major && r.capability.minor == c.minor;
  });
  // A capability of nobody, as a test of refusals names it, has the limits of the oldest.
  Limits limits = row == std::end(kRows) ? kRows[0].limits : row->limits;
  if (device_model().shared_per_block) limits.shared_per_block = device_model().shared_per_block;
  return limits;
}

}  // namespace mullion::simt
