// The public differentiable ops. Each checks its shapes with errors "op: what: values", computes by
// the kernel table and records its backward. Shape letters: B batch, T time, C channels, H heads, D
// head width, V vocabulary. Every function here has a row in the op table (tests/autograd).
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "autograd/node.h"
#include "autograd/weight.h"

namespace mullion {

struct AttentionPattern;  // tensor/attention_pattern.h
struct MsaConvGeometry;   // tensor/kernel_args/msa_conv.h

// --- ops/elementwise.cc: results of x's shape ----------------------------------------------------
Tensor neg(const Tensor& x);
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor square(const Tensor& x);
Tensor tanh(const Tensor& x);
Tensor sigmoid(const Tensor& x);
Tensor relu(const Tensor& x);  // 0 where x <= 0, else x
Tensor silu(const Tensor& x);
Tensor gelu(const Tensor& x);                                   // by the error function
Tensor gelu_tanh(const Tensor& x);                              // by the tanh approximation
Tensor affine(const Tensor& x, double alpha, double beta = 0);  // alpha x + beta
// Two inputs of the same type; shapes broadcast as NumPy's do.
Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);
// silu(gate) * up (Shazeer 2020); same shapes
Tensor swiglu(const Tensor& gate, const Tensor& up);

// --- ops/shape.cc: the same elements in another arrangement -------------------------------------
Tensor reshape(const Tensor& x, Shape shape);  // one size may be -1
// Axis i of the result is axis axes[i] of x.
Tensor permute(const Tensor& x, const std::vector<int>& axes);
// The places begin to end, without it, of an axis; the other sizes stay.
Tensor slice(const Tensor& x, int axis, int64_t begin, int64_t end);
// One behind the other along an axis; their other sizes are equal.
Tensor concat(const std::vector<Tensor>& parts, int axis);
// y[.., i, ..] = x[.., (i - shift) mod n, ..] along the axis, as torch.roll
Tensor roll(const Tensor& x, int axis, int64_t shift);

// The elements in another floating-point type; the gradient comes back in x's.
Tensor cast(const Tensor& x, DType dtype);

// --- ops/reduce.cc ------------------------------------------------------------------------------
Tensor sum(const Tensor& x);  // all elements, to a scalar
// Over one axis, which goes or, with keep_axis, stays with size 1.
Tensor sum(const Tensor& x, int axis, bool keep_axis = false);
Tensor mean(const Tensor& x, int axis, bool keep_axis = false);

// --- ops/linear.cc ------------------------------------------------------------------------------
// a (.., M, K) times b (.., K, N); the leading axes are equal, or b has none.
Tensor matmul(const Tensor& a, const Tensor& b);
// x (.., in) W^T + bias + residual; W (out, in), bias (out), residual (.., out), which is added
// without a pass of its own; either may be undefined. W may be bf16 or blocks if it needs no
// gradient. Where x is bf16, a W of numbers is f32 or bf16 and what is trained (bias, W, LoRA's
// pair) f32.
Tensor linear(const Tensor& x, const Weight& weight, const Tensor& bias = {},
              const Tensor& residual = {});
// gelu(x W^T + bias) without a pass of its own for GELU, or for the bias.
Tensor linear_gelu(const Tensor& x, const Tensor& weight, const Tensor& bias = {});
// Rows of a table (V, C) by ids (..) of type i64: (.., C). An id outside [0, V) is an error. Ids
// may come on the CPU, where they are looked at, and follow the table to its device; ids on another
// device are taken as looked at. The same goes for the targets of losses.
Tensor embedding(const Weight& table, const Tensor& ids);

// --- ops/lora.cc --------------------------------------------------------------------------------
// LoRA (Hu et al. 2021, eq. 3): x W^T + scale (x A^T) B^T + residual; W (out, in), A (r, in),
// B (out, r).
Tensor lora_linear(const Tensor& x, const Weight& weight, const Tensor& lora_a,
                   const Tensor& lora_b, double scale, const Tensor& residual = {});
// The same for several projections of one x, some of which may have no pair. A that lie one below
// the other in one storage are one product; B that do and are of one shape are one of batches.
struct Projection {
  Weight weight;
  Tensor lora_a = {}, lora_b = {}, residual = {};
  uint64_t dropout_seed = 0;
};
// PEFT's lora_dropout: each A sees dropout(x), by a mask of its own, W sees x. The stream is as
// drop_path's.
struct LoraDropout {
  double p = 0;
  Tensor stream = {};
};
// `again`, where given, computes x once more: the backward keeps it instead of x.
std::vector<Tensor> lora_linears(const Tensor& x, const std::vector<Projection>& projections,
                                 double scale, const std::function<Tensor()>& again = {},
                                 const LoraDropout& dropout = {});

// --- ops/norm.cc: results of x's shape ----------------------------------------------------------
// Over the last axis of x (.., C); weight and bias (C).
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps);
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps);
Tensor softmax(const Tensor& x);
// Rotary embedding, half-split: x (B, T, H, D); cos, sin (T, D/2).
Tensor rope(const Tensor& x, const Tensor& cos, const Tensor& sin);
// The same where x lies, for an x that neither the caller nor a backward will read again.
Tensor rope_in_place(const Tensor& x, const Tensor& cos, const Tensor& sin);

// --- ops/attention.cc ---------------------------------------------------------------------------
// softmax(scale q k^T) v over the pairs that the pattern lets see each other; no T x S buffer.
// q (B, T, H, D); k, v (B, S, Hkv, D), Hkv dividing H. query_offset is the position of query 0
// among the keys (the tokens already in a KV cache); with S > T there is no backward.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionPattern& pattern,
                 double scale, int64_t query_offset = 0);

// --- ops/msa_conv.cc: maps are (B, H, W, C) -----------------------------------------------------
// Windowed attention inside a convolution (TiC, arXiv 2310.04134). qkv (B, H, W, 3C): q, k, v side
// by side; the geometry's batch, height and width are taken from it. Result (B, H, W, C).
Tensor msa_conv(const Tensor& qkv, const MsaConvGeometry& geometry);
// The same with k and v apart, of size ceil(H / pool) x ceil(W / pool).
Tensor msa_conv(const Tensor& q, const Tensor& k, const Tensor& v, const MsaConvGeometry& geometry);

// --- ops/conv.cc: maps are (B, H, W, C) ---------------------------------------------------------
Tensor max_pool2x2(const Tensor& x);  // stride 2; odd sizes are rounded up
Tensor avg_pool(const Tensor& x,
                int64_t r);  // r x r, stride r; a cut cell is the mean of its inside
// Each channel by its own 3x3 kernel, padding 1: weight (C, 1, 3, 3), bias (C).
Tensor depthwise_conv3x3(const Tensor& x, const Tensor& weight, const Tensor& bias);
// weight (out, C, kh, kw), padding floor(dilation (k - 1) / 2), no bias.
Tensor conv2d(const Tensor& x, const Tensor& weight, int64_t stride, int64_t dilation);

// --- ops/loss.cc --------------------------------------------------------------------------------
// Sum over rows of the cross-entropy of logits (N, V) with targets (N) of type i64, times `scale`;
// the target -100 is ignored. For a mean give scale = 1 / number of targets.
Tensor cross_entropy(const Tensor& logits, const Tensor& targets, double scale);
// The same against distributions (N, V).
Tensor soft_cross_entropy(const Tensor& logits, const Tensor& probabilities, double scale);
// cross_entropy(linear(x, weight), targets, scale) without logits of all N rows at once: rows go
// through in chunks of `chunk_rows`, and their gradients are made in the same pass. x (N, C),
// weight (V, C).
Tensor linear_cross_entropy(const Tensor& x, const Weight& weight, const Tensor& targets,
                            double scale, int64_t chunk_rows);

// --- ops/random.cc: y is a pure function of x and (seed, stream) --------------------------------
// Elements zeroed with probability p, the others divided by 1 - p.
Tensor dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream);
// Whole samples (axis 0) zeroed: stochastic depth (Huang et al. 2016). The stream is an i64 of one
// element: on the CPU, or on x's device, where it is read when the mask is made, so that a step
// that was recorded once (autograd/step_graph.h) draws anew in each repetition.
Tensor drop_path(const Tensor& x, double p, uint64_t seed, const Tensor& stream);

}  // namespace mullion
