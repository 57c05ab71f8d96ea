// --shard optimizer (ZeRO, stage 1; Rajbhandari et al. 2020): the moments and the average of a
// parameter live on one rank, its owner, which alone updates it and then sends its values to all.
// Gradients are those of RankSum on all ranks, so the values have the bits that they have without.
#pragma once
#include <cstdint>
#include <vector>

#include "nn/module.h"
#include "optim/optimizer.h"
#include "tensor/collective.h"

namespace mullion {

// The owner of each parameter, by their elements: the largest first, to the rank that has the least
// yet, so that none has more than its equal share and the largest parameter. Error(usage) where
// there are fewer than ranks.
std::vector<int64_t> shard_owners(const std::vector<int64_t>& elements, int64_t ranks);

class OptimizerShard {
 public:
  OptimizerShard(Communicator& ranks, std::vector<NamedParameter> parameters);
  int64_t rank() const { return ranks_.rank(); }
  bool owns(const std::string& name) const;
  // Those of the parameters that this rank owns.
  std::vector<NamedParameter> own(const std::vector<NamedParameter>& all) const;
  std::vector<ParameterGroup> own(std::vector<ParameterGroup> groups) const;
  // Values of all parameters, from their owners to all ranks.
  void share() const;
  // The elements that this rank owns: of each of the moments and of the average.
  int64_t elements() const;

 private:
  Communicator& ranks_;
  std::vector<NamedParameter> parameters_;
  std::vector<int64_t> owners_;
};

}  // namespace mullion
