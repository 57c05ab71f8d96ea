// Which devices this build has. A device is added by giving it a table here.
#include "tensor/backend.h"

#include "tensor/check.h"

namespace mullion {

const KernelTable& kernels(Device device) {
  static const KernelTable* const tables[kDeviceTypes] = {&kCpuKernels, nullptr};
  const KernelTable* table = tables[static_cast<int>(device.type)];
  CHECK_AS(Fault::usage, table, "device ", name_of(device), " is not part of this build");
  CHECK_AS(Fault::usage, device.type != DeviceType::cpu || device.index == 0,
           "there is one cpu; index ", device.index, " does not exist");
  return *table;
}

}  // namespace mullion
