// Data parallelism with all weights on each rank: gradients are added up over the ranks before the
// norm, while the backward pass goes on. The first pass of all shows in which order
// gradients get complete, and how many additions each is made of (a weight that is used twice:
// two); parameters are put into buckets in that order. In a rank's last pass of each step a bucket
// is packed and sent when its last gradient is complete, and added up over the ranks by the
// communicator's own thread while earlier layers are computed. An element is added up in the order
// of the ranks whatever the bucket, so neither buckets nor timing change a bit.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "nn/module.h"
#include "optim/parallel/step_ranks.h"

namespace mullion {

struct RankSumOptions {
  // Of gradients that travel together, at most. The first bucket is small and those after it have
  // as much as all before, so that travelling begins early; toward the end of a pass each has half
  // of what is still to come, so that little is left to travel when it is over.
  int64_t bucket_bytes = int64_t{8} << 20;
  int64_t ranks_a_pass = 1;  // of StepRanks
  bool overlap = true;       // false: buckets are sent when all passes are over
};

// Of gradients of so many elements, in the order in which they get complete: how many each bucket
// has.
std::vector<size_t> bucket_members(const std::vector<int64_t>& elements, int64_t bucket_bytes);

class RankSum : public StepRanks {
 public:
  // `parameters`: all that is trained.
  RankSum(Communicator& ranks, std::vector<NamedParameter> parameters, int64_t passes,
          RankSumOptions options = {});
  // All passes must use the parameters equally often: Error that names the one that is not.
  void backward(const Tensor& loss) override;
  void finish(std::vector<Tensor>& losses) override;

 private:
  struct Bucket {
    std::vector<size_t> members;  // places in parameters_
    int64_t elements = 0;
    // Of a step:
    int64_t missing = 0;  // members whose gradients are not complete
    Tensor memory;
    std::unique_ptr<PendingCollective> sum;
  };

  void seen(size_t parameter);
  void check_uses(size_t parameter, bool at_most) const;
  void plan();
  void send(Bucket& bucket);
  bool planned() const { return !buckets_.empty(); }

  std::vector<NamedParameter> parameters_;
  std::unordered_map<const GradData*, size_t> places_;  // in parameters_
  RankSumOptions options_;
  int64_t pass_ = 0;                  // of this rank's, within the step
  std::vector<int64_t> uses_;         // of each parameter in a pass
  std::vector<int64_t> uses_so_far_;  // in the pass under way
  std::vector<size_t> order_;         // of all uses in the first pass
  std::vector<Bucket> buckets_;       // in the order in which they are sent
  size_t sent_ = 0;                   // buckets of the step
};

}  // namespace mullion
