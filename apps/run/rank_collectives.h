// --collectives: by what ways the tensors of several ranks travel. On the CPU there is one; between
// GPUs they go by the device's own collectives (NCCL) or through memory of the host.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "apps/options/options.h"
#include "apps/run/rank_devices.h"
#include "tensor/collective.h"

namespace mullion {

void add_collectives_option(OptionTable& table);

// For a dry run: Error(usage) where --collectives nccl cannot be had, as below; of ranks that have
// met, or (`host` null) as far as this machine alone can say.
void plan_collectives(const Options& options, Communicator* host,
                      const std::vector<RankDevice>& devices);

// A communicator of the same ranks for the device of each, and a line that says by what way; `host`
// itself where that is the host's. All ranks decide alike: the device's collectives are not used
// where one rank cannot, or two share a device.
// Error(usage) where that was asked for.
std::shared_ptr<Communicator> rank_collectives(const Options& options,
                                               std::shared_ptr<Communicator> host,
                                               const std::vector<RankDevice>& devices);

}  // namespace mullion
