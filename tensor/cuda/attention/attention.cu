// The attention slots of the table: which kernel takes which sizes.
#include <cuda_runtime.h>

#include <cmath>

#include "tensor/attention_groups.h"
#include "tensor/check.h"
#include "tensor/cuda/attention/attention_kernels.h"
#include "tensor/cuda/kernels.h"

namespace mullion::cuda {
namespace {

void check_attention(const AttentionSizes& s, bool backward) {
  check_attention_sizes(s, backward);
  CHECK_AS(Fault::usage, s.dtype != DType::f64,
           "attention: f64 is for the CPU's gradient checks; cuda computes in f32 and bf16");
  CHECK_AS(Fault::usage, s.dtype == DType::f32 || s.dtype == DType::bf16,
           "attention: ", name_of(s.dtype), " is neither f32 nor bf16");
  CHECK(s.D <= kSimpleMostWidth, "attention: heads of ", s.D, " are wider than ", kSimpleMostWidth);
}

bool suits_tensor_cores(const AttentionSizes& s) {
  return s.dtype == DType::bf16 && (s.D == 64 || s.D == 128) && s.scale > 0;
}

// Whether every row begins at a multiple of 16 bytes.
bool rows_aligned(const void* base, const AttentionStrides& stride) {
  constexpr int64_t kElements = 8;
  return reinterpret_cast<uintptr_t>(base) % 16 == 0 && stride.batch % kElements == 0 &&
         stride.token % kElements == 0 && stride.head % kElements == 0;
}

BackwardScratch carve(void* scratch, const AttentionSizes& s) {
  auto* const lse = static_cast<float*>(scratch);
  const int64_t rows = s.B * s.H * s.T;
  return {lse, lse + rows, lse + 2 * rows};
}

}  // namespace

size_t attention_forward_scratch(const AttentionSizes& size) {
  check_attention(size, false);
  return decode_takes(size) ? decode_scratch(size) : 0;
}

void attention_forward(const AttentionForwardArgs& args) {
  check_attention(args.size, false);
  check_column_sums(args);
  const bool with_sums = args.column_sums != nullptr;
  CHECK_AS(Fault::usage,
           !with_sums || (args.size.pattern->kind == PatternKind::full &&
                          args.size.pattern->documents.empty()),
           "attention: cuda has column sums of full attention alone");
  const bool aligned = rows_aligned(args.q, args.q_stride) && rows_aligned(args.k, args.k_stride) &&
                       rows_aligned(args.v, args.v_stride) && rows_aligned(args.o, args.o_stride);
  AttentionForwardArgs first = args;
  if (args.size.T > 1) first.column_sums = nullptr;
  if (aligned && decode_takes(args.size)) {
    decode_forward(first);
    if (args.size.T == 1) return;  // the sums as well
  } else if (aligned && suits_tensor_cores(args.size)) {
    tensor_core_forward(first);
  } else {
    simple_forward(first);
  }
  if (with_sums) column_sums_forward(args);
}

size_t attention_backward_scratch(const AttentionSizes& size) {
  check_attention(size, true);
  // The side buffer follows from the pattern, not from the kernels' shapes.
  const AttentionPlan plan =
      attention_plan(size, suits_tensor_cores(size) ? tensor_core_shape(size.D) : kSimpleShape);
  const int64_t floats = 2 * size.B * size.H * size.T + int64_t{plan.n_side_rows} * 2 * size.D;
  return static_cast<size_t>(floats) * sizeof(float);
}

void attention_backward(const AttentionBackwardArgs& args) {
  check_attention(args.size, true);
  DCHECK(args.scratch != nullptr);
  const BackwardScratch scratch = carve(args.scratch, args.size);
  const bool aligned =
      rows_aligned(args.q, args.q_stride) && rows_aligned(args.k, args.k_stride) &&
      rows_aligned(args.v, args.v_stride) && rows_aligned(args.d_o, args.d_o_stride) &&
      rows_aligned(args.dq, args.dq_stride) && rows_aligned(args.dk, args.dk_stride) &&
      rows_aligned(args.dv, args.dv_stride);
  if (aligned && suits_tensor_cores(args.size)) return tensor_core_backward(args, scratch);
  simple_backward(args, scratch);
}

}  // namespace mullion::cuda
