// Context parallelism: the ranks of a group have a part of each sequence each, and the same model.
// A model is given a ContextParallel and asks it for a pass over a sequence; all that it does with
// that is to take its own tokens of what is given whole, and to attend. Which keys travel is the
// plan's business (tensor/context_plan.h).
#pragma once
#include <memory>

#include "autograd/context_exchange.h"

namespace mullion {

// A pass over one sequence, or over several of one length.
class ContextPass {
 public:
  ContextPass(const AttentionPattern& pattern, const ContextSizes& sizes,
              std::shared_ptr<Communicator> ranks);
  // This rank's tokens of x, which has those of all along `axis`. Without gradients.
  Tensor own(const Tensor& x, int axis) const;
  // attention() of autograd/ops.h for this rank's queries over the keys that they see in the whole
  // sequence: q (B, own tokens, H, D); k, v (B, own tokens, Hkv, D), turned by positions in the
  // whole. All ranks at once.
  Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, double scale) const;
  const ContextPart& part() const { return *part_; }

 private:
  std::shared_ptr<Communicator> ranks_;
  std::shared_ptr<const ContextPart> part_;
  AttentionPattern pattern_;  // of what is held
};

class ContextParallel {
 public:
  explicit ContextParallel(std::shared_ptr<Communicator> ranks) : ranks_(std::move(ranks)) {}
  // Throws Error (usage) where the sequence cannot be divided so.
  std::shared_ptr<const ContextPass> pass(const AttentionPattern& pattern,
                                          const ContextSizes& sizes);
  const std::shared_ptr<Communicator>& ranks() const { return ranks_; }

 private:
  std::shared_ptr<Communicator> ranks_;
  // The last one, for passes alike.
  AttentionPattern pattern_;
  ContextSizes sizes_;
  std::shared_ptr<const ContextPass> last_;
};

}  // namespace mullion
