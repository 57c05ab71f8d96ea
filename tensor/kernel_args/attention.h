// Arguments of the attention kernels: softmax(scale * q k^T) v over the pairs that a pattern lets
// see each other. Queries B x T x H x D, keys and values B x S x Hkv x D with Hkv dividing H (query
// head h uses key head h / (H / Hkv)); any strides, but the D elements of a row lie side by side.
// All arrays have the type `dtype`: f32 or f64 on the CPU, f32 or bf16 on cuda. Where it is bf16,
// sums are kept in f32 and lse is f32.
#pragma once
#include <cstddef>
#include <cstdint>

#include "tensor/attention_pattern.h"
#include "tensor/dtype.h"

namespace mullion {

struct AttentionStrides {  // in elements
  int64_t batch = 0, token = 0, head = 0;
};

struct AttentionSizes {
  int64_t B = 0, T = 0, S = 0, H = 0, Hkv = 0, D = 0;
  double scale = 1;
  int64_t query_offset = 0;  // position of query 0 among the keys: the tokens in a KV cache
  DType dtype = DType::f32;
  const AttentionPattern* pattern = nullptr;
};

struct AttentionForwardArgs {
  AttentionSizes size;
  const void *q, *k, *v;
  void* o;              // B x T x H x D
  void* lse = nullptr;  // B x H x T without gaps: log of the sum of exp(scale * q k)
  void* scratch;        // attention_forward_scratch(size) bytes, 64-byte aligned
  AttentionStrides q_stride, k_stride, v_stride, o_stride;
  // B x H x S without gaps, of lse's type: for each key the sum of its probabilities over the
  // queries from `sums_from` on (a cache evicts by it). May be null; where it is not, lse is given.
  void* column_sums = nullptr;
  int64_t sums_from = 0;
};

// Needs query_offset 0 and T == S, or a pattern that says what is held. dq, dk, dv are overwritten.
struct AttentionBackwardArgs {
  AttentionSizes size;
  const void *q, *k, *v;
  const void *o, *lse;  // as the forward kernel left them
  const void* d_o;      // gradient with respect to o
  void *dq, *dk, *dv;
  void* scratch;  // attention_backward_scratch(size) bytes, 64-byte aligned
  AttentionStrides q_stride, k_stride, v_stride, o_stride, d_o_stride, dq_stride, dk_stride,
      dv_stride;
};

}  // namespace mullion

// Their kernels (tensor/kernel_table.h): result, name, arguments.
#define MULLION_ATTENTION_KERNELS(KERNEL)                   \
  KERNEL(void, attention_forward, AttentionForwardArgs)     \
  KERNEL(size_t, attention_forward_scratch, AttentionSizes) \
  KERNEL(void, attention_backward, AttentionBackwardArgs)   \
  KERNEL(size_t, attention_backward_scratch, AttentionSizes)
