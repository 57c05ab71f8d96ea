// Attention by the fused kernels: the forward keeps the output and one log-sum-exp a query and
// head, the backward computes the probabilities again.
#include <optional>

#include "autograd/attention_sums.h"
#include "autograd/ops.h"
#include "autograd/ops/common.h"

namespace mullion {
using namespace detail;  // NOLINT

namespace {

// A kernel takes any strides, but the elements of a row lie side by side.
Tensor dense_rows(const Tensor& x) { return x.strides()[3] == 1 ? x : raw::contiguous(x); }
AttentionStrides strides_of(const Tensor& x) {
  return {x.strides()[0], x.strides()[1], x.strides()[2]};
}
Tensor bytes(size_t n, const Tensor& like) {
  return Tensor::empty({static_cast<int64_t>(n)}, DType::u8, like.device());
}

// What the kernel takes, checked, and what it gives.
struct Attended {
  Tensor q, k, v, o, lse = {}, sums = {};
  AttentionSizes size;
};
Attended attend(const Tensor& q_in, const Tensor& k_in, const Tensor& v_in,
                const AttentionPattern& pattern, double scale, int64_t query_offset, bool keep_lse,
                std::optional<int64_t> sums_from = {}) {
  const auto [B, T, H, D] = dims<4>("attention", "q", q_in);
  const auto [Bk, S, Hkv, Dk] = dims<4>("attention", "k", k_in);
  CHECK(Bk == B && Dk == D && Hkv > 0 && H % Hkv == 0, "attention: q of shape ", q_in.shape(),
        " and k of shape ", k_in.shape());
  check_same_shape("attention", k_in, v_in);
  CHECK(query_offset >= 0 && query_offset + T <= S, "attention: queries ", query_offset, " to ",
        query_offset + T, " of ", S, " keys");
  CHECK(pattern.n_heads == 0 || pattern.n_heads == H, "attention: a pattern of ", pattern.n_heads,
        " heads for q of shape ", q_in.shape());
  for (const Tensor& other : {k_in, v_in}) {
    check_same_dtype("attention", q_in, other);
    check_same_device("attention", q_in, other);
  }
  const DType sum_type = q_in.dtype() == DType::bf16 ? DType::f32 : q_in.dtype();
  Attended a{.q = dense_rows(q_in),
             .k = dense_rows(k_in),
             .v = dense_rows(v_in),
             .o = empty({B, T, H, D}, q_in),
             .size = {.B = B,
                      .T = T,
                      .S = S,
                      .H = H,
                      .Hkv = Hkv,
                      .D = D,
                      .scale = scale,
                      .query_offset = query_offset,
                      .dtype = q_in.dtype(),
                      .pattern = &pattern}};
  if (keep_lse || sums_from) a.lse = Tensor::empty({B, H, T}, sum_type, q_in.device());
  if (sums_from) a.sums = Tensor::empty({B, H, S}, sum_type, q_in.device());
  const Tensor parts = bytes(table(a.q).attention_forward_scratch(a.size), a.q);
  AttentionForwardArgs args{.size = a.size,
                            .q = a.q.data<void>(),
                            .k = a.k.data<void>(),
                            .v = a.v.data<void>(),
                            .o = a.o.data<void>(),
                            .scratch = parts.data<void>(),
                            .q_stride = strides_of(a.q),
                            .k_stride = strides_of(a.k),
                            .v_stride = strides_of(a.v),
                            .o_stride = strides_of(a.o)};
  if (a.lse.defined()) args.lse = a.lse.data<void>();
  if (sums_from) args.column_sums = a.sums.data<void>(), args.sums_from = *sums_from;
  table(a.q).attention_forward(args);
  return a;
}

}  // namespace

AttentionSums attention_with_sums(const Tensor& q, const Tensor& k, const Tensor& v,
                                  const AttentionPattern& pattern, double scale,
                                  int64_t query_offset, int64_t sums_from) {
  const OpScope scope("attention");
  refuse_gradients("attention with column sums", {q, k, v});
  const Attended a = attend(q, k, v, pattern, scale, query_offset, false, sums_from);
  return {a.o, a.sums};
}

Tensor attention(const Tensor& q_in, const Tensor& k_in, const Tensor& v_in,
                 const AttentionPattern& pattern, double scale, int64_t query_offset) {
  const OpScope scope("attention");
  const bool need =
      grad_enabled() && (requires_grad(q_in) || requires_grad(k_in) || requires_grad(v_in));
  const auto [q, k, v, o, lse, sums, size] =
      attend(q_in, k_in, v_in, pattern, scale, query_offset, need);
  if (!need) return o;
  CHECK(size.T == size.S || !pattern.held.empty(),
        "attention: has a backward only over whole sequences, not for ", size.T, " queries over ",
        size.S, " keys");
  // With P = softmax(s q k^T) and D_i = sum_d do_id o_id:
  // dv = P^T do, dP = do v^T, dS = P (dP - D), dq = s dS k, dk = s dS^T q
  return record(
      "attention", o, {q_in, k_in, v_in},
      [q = detached(q), k = detached(k), v = detached(v), o = detached(o), lse = lse, pattern,
       size = size](const Tensor& g) -> Gradients {
        AttentionSizes s = size;
        s.pattern = &pattern;
        // In one block, for products over several of them (ops/lora.cc).
        Gradients d = empty_parts({q.shape(), k.shape(), v.shape()}, q.dtype(), q.device());
        const Tensor &dq = d[0], &dk = d[1], &dv = d[2];
        const Tensor scratch = bytes(table(q).attention_backward_scratch(s), q);
        AttentionBackwardArgs args{.size = s,
                                   .q = q.data<void>(),
                                   .k = k.data<void>(),
                                   .v = v.data<void>(),
                                   .o = o.data<void>(),
                                   .lse = lse.data<void>(),
                                   .d_o = g.data<void>(),
                                   .dq = dq.data<void>(),
                                   .dk = dk.data<void>(),
                                   .dv = dv.data<void>(),
                                   .scratch = scratch.data<void>(),
                                   .q_stride = strides_of(q),
                                   .k_stride = strides_of(k),
                                   .v_stride = strides_of(v),
                                   .o_stride = strides_of(o),
                                   .d_o_stride = strides_of(g),
                                   .dq_stride = strides_of(dq),
                                   .dk_stride = strides_of(dk),
                                   .dv_stride = strides_of(dv)};
        table(q).attention_backward(args);
        return d;
      });
}

}  // namespace mullion
