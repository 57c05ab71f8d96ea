// Which device each rank computes on: --device, whose index is the rank's place on its node where
// none is given, among the devices that the process sees.
#pragma once
#include <string>
#include <vector>

#include "apps/options/options.h"
#include "apps/run/launch.h"
#include "tensor/collective.h"

namespace mullion {

struct RankDevice {
  std::string node, name;  // name: "cpu", "cuda:3"
  std::string machine;     // machine_identity()
  // What tells a GPU from the others of its node, whatever index a process sees it by
  // (CUDA_VISIBLE_DEVICES); "" on the CPU, which ranks share.
  std::string identity;
  std::string place() const { return node + " " + name; }
  bool is_that_of(const RankDevice& other) const {
    return !identity.empty() && machine == other.machine && identity == other.identity;
  }
};

// That of the process `local_rank` of `node`, which is this one. Error(usage) as device_of().
RankDevice choose_rank_device(const Options& options, const std::string& node, int64_t local_rank);
// Those of all ranks, and who has which. Error(usage) where two have one GPU, in which they slow
// each other down or run out of memory, and --share-device does not allow it.
std::vector<RankDevice> gather_rank_devices(const Options& options, Communicator& ranks,
                                            const RankDevice& mine);
// How many ranks this one's machine has, itself among them, once they are gathered.
int64_t ranks_on_machine();
// Error(memory) where a step of so many bytes on each of them is beyond the machine's memory
// (require_memory in apps/options/device.h).
void require_memory_of_ranks(double bytes, Device device);
// At the first rank, for its machine (warn_of_used_memory).
void warn_of_used_memory_of_ranks(double bytes, Device device);

}  // namespace mullion
