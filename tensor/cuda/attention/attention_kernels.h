// The parts behind the attention slots of the table (attention.cu), which chooses among them.
#pragma once
#include <cstddef>

#include "tensor/cuda/attention/attention_plan.h"

namespace mullion::cuda {

// Arguments as a kernel gets them: without the pattern, which lies in the host's memory.
template <typename Args>
Args for_device(Args args) {
  args.size.pattern = nullptr;
  return args;
}

// attention_simple_*.cu: f32 and bf16, every D up to kSimpleMostWidth, in f32 arithmetic.
constexpr int64_t kSimpleMostWidth = 256;
void simple_forward(const AttentionForwardArgs& args);

// What the backward kernels share in scratch: for each B x H x T the log-sum-exp in powers of two,
// +infinity where the query saw nothing, and delta = sum_d o do; then the side buffer, rows of 2 x
// D (dk, dv).
struct BackwardScratch {
  float *lse, *delta, *side;
};
extern const PlanShape kSimpleShape;
void simple_backward(const AttentionBackwardArgs& args, const BackwardScratch& scratch);
// Fills lse and delta.
void attention_delta(const AttentionBackwardArgs& args, const BackwardScratch& scratch,
                     const AttentionPlan& plan);

// attention_forward.cu, attention_backward.cu: bf16 on tensor cores, D of 64 and 128, rows that
// begin at multiples of 16 bytes, scale above zero.
void tensor_core_forward(const AttentionForwardArgs& args);
PlanShape tensor_core_shape(int64_t D);  // of the backward
void tensor_core_backward(const AttentionBackwardArgs& args, const BackwardScratch& scratch);

// attention_column_sums.cu: args.column_sums from args.lse, under full attention.
void column_sums_forward(const AttentionForwardArgs& args);

// attention_decode.cu: few queries over many keys, D a multiple of 8, rows that begin at multiples
// of 16 bytes; column sums as well where there is one query.
bool decode_takes(const AttentionSizes& size);
size_t decode_scratch(const AttentionSizes& size);
void decode_forward(const AttentionForwardArgs& args);

}  // namespace mullion::cuda
