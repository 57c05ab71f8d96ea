// Keys and values of other ranks under context parallelism, as a differentiable op. Every rank of
// the group calls it at the same place of the same model, and their backward passes come to it in
// the same order. In a recomputed block (activation_checkpoint.h) the exchange is made again.
#pragma once
#include <memory>

#include "tensor/collective.h"
#include "tensor/context_plan.h"

namespace mullion {

struct HeldKeys {
  Tensor k, v;  // (B, held tokens, Hkv, D), in the order of ContextPart::held
};
// k and v (B, own tokens, Hkv, D) of this rank's tokens. What no query of this rank sees is zero.
// The backward sends the gradients of received rows to where they came from, where they are added
// to the own ones in the order of ranks: the same bits each time.
HeldKeys exchange_keys(const Tensor& k, const Tensor& v,
                       const std::shared_ptr<const ContextPart>& part,
                       const std::shared_ptr<Communicator>& ranks);

}  // namespace mullion
