// Data parallelism: the passes of a step are dealt out to the ranks in turn (pass p is rank p %
// size's), and gradients are added up before the norm. Everything in a pass (its rows, its masks,
// its scale, 1 over the targets of the whole step) is a function of the pass's number, so the
// number of ranks changes nothing but the order in which gradients are added.
#pragma once
#include <cstdint>
#include <vector>

#include "nn/module.h"
#include "tensor/collective.h"

namespace mullion {

// How many of a step's passes a rank makes. Error(usage) where there are fewer passes than ranks.
int64_t passes_of_rank(int64_t passes, int64_t rank, int64_t ranks);

// UpdateOptions::sum_over_ranks.
class RankSum {
 public:
  static constexpr int64_t kBucketBytes = int64_t{8} << 20;
  // `passes`: of a step, on all ranks together. `bucket_bytes`: gradients travel in buckets of
  // about that size, of which one is packed while the one before travels.
  // `ranks_a_pass`: neighbours that make a pass together, and have a part of its loss and of its
  // gradients each; it divides the ranks.
  RankSum(Communicator& ranks, int64_t passes, int64_t bucket_bytes = kBucketBytes,
          int64_t ranks_a_pass = 1);
  // The losses of all passes, in the order of the passes, in the place of this rank's own.
  void operator()(std::vector<Tensor>& losses, const std::vector<NamedParameter>& parameters) const;

 private:
  Communicator& ranks_;
  int64_t passes_, bucket_bytes_, group_, groups_;  // of ranks that make a pass together
};

}  // namespace mullion
