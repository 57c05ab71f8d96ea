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
  // What tells a GPU from the others of its node, whatever index a process sees it by
  // (CUDA_VISIBLE_DEVICES); "" on the CPU, which ranks share.
  std::string identity;
  std::string place() const { return node + " " + name; }
  bool is_that_of(const RankDevice& other) const {
    return !identity.empty() && node == other.node && identity == other.identity;
  }
};

// That of the process `local_rank` of `node`, which is this one. Error(usage) as device_of().
RankDevice choose_rank_device(const Options& options, const std::string& node, int64_t local_rank);
// Those of all ranks, and who has which. Error(usage) where two have one GPU, in which they slow
// each other down or run out of memory, and --share-device does not allow it.
std::vector<RankDevice> gather_rank_devices(const Options& options, Communicator& ranks,
                                            const RankDevice& mine);
// How many ranks this one's node has, itself among them, as far as one of the two functions around
// this has found out.
int64_t ranks_on_node();
// Error(memory) where a step of so many bytes on each of them is beyond the node's memory
// (require_memory in apps/options/device.h).
void require_memory_of_ranks(double bytes, Device device);
// For a dry run under a launcher, the same as far as this process can see: its own device and,
// where it sees all GPUs of its node, those of the node's other ranks.
void plan_rank_devices(const Options& options, const Launch& launch);

}  // namespace mullion
