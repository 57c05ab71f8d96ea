// Which devices this build has: the CPU, and what has registered itself.
#include "tensor/backend.h"

#include "tensor/check.h"
#include "tensor/cpu/kernels.h"
#include "tensor/parallel.h"

namespace mullion {
namespace {
// Filled while the program's static objects are made, so it must need no construction itself.
constinit const DeviceBackend* backends[kDeviceTypes] = {};
}  // namespace

void register_backend(DeviceType type, const DeviceBackend& backend) {
  DCHECK(type != DeviceType::cpu);
  backends[static_cast<int>(type)] = &backend;
}

const DeviceBackend& backend(DeviceType type) {
  const DeviceBackend* found = backends[static_cast<int>(type)];
  CHECK_AS(Fault::usage, found, "device ", name_of(Device{type}), " is not part of this build");
  return *found;
}

const KernelTable& kernels(Device device) {
  if (device.type != DeviceType::cpu) return backend(device.type).kernels(device.index);
  CHECK_AS(Fault::usage, device.index == 0, "there is one cpu; index ", device.index,
           " does not exist");
  return cpu::kTable;
}

int device_count(DeviceType type) {
  if (type == DeviceType::cpu) return 1;
  const DeviceBackend* found = backends[static_cast<int>(type)];
  return found ? found->count() : 0;
}

void synchronize(Device device) {
  if (device.type != DeviceType::cpu) backend(device.type).synchronize(device.index);
}

std::string describe(Device device) {
  if (device.type != DeviceType::cpu) return backend(device.type).describe(device.index);
  return concat("cpu, ", num_threads(), " threads");
}

std::string device_identity(Device device) {
  return device.type == DeviceType::cpu ? "" : backend(device.type).identity(device.index);
}

}  // namespace mullion
