// Collectives that a kind of device has of its own, between the memories of several of them without
// the way through the host's. The backend of the device makes them known before main(), as it does
// its kernels (tensor/backend.h).
#pragma once
#include <memory>
#include <string>

#include "tensor/collective.h"
#include "tensor/storage.h"

namespace mullion {

struct DeviceCollectives {
  // "NCCL 2.28.9". Throws Error(usage) that says why they cannot be used on this machine.
  std::string (*describe)();
  // A communicator of the same ranks as `host`, on this rank's device of the index. Tensors there
  // go by the device's collectives; tensors in memory of the host, and what the ranks have to say
  // to each other besides, by `host`. All ranks call it.
  std::unique_ptr<Communicator> (*make)(std::shared_ptr<Communicator> host, int index);
};
void register_collectives(DeviceType type, const DeviceCollectives& collectives);
// Throws Error(usage) where the build has none for this kind of device.
const DeviceCollectives& collectives_of(DeviceType type);

}  // namespace mullion
