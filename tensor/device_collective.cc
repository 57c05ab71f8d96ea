// One slot a device type, filled before main().
#include "tensor/device_collective.h"

#include "tensor/check.h"

namespace mullion {
namespace {
// Filled while the program's static objects are made, so it must need no construction itself.
constinit const DeviceCollectives* known[kDeviceTypes] = {};
}  // namespace

void register_collectives(DeviceType type, const DeviceCollectives& collectives) {
  known[static_cast<int>(type)] = &collectives;
}

const DeviceCollectives& collectives_of(DeviceType type) {
  const DeviceCollectives* found = known[static_cast<int>(type)];
  CHECK_AS(Fault::usage, found, "this build has no collectives of device ", name_of(Device{type}));
  return *found;
}

}  // namespace mullion
