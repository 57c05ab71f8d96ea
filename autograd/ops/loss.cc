// Losses. Each makes the gradient of its logits in the forward pass, where the softmax is at hand.
#include "autograd/ops.h"
#include "autograd/ops/common.h"

namespace mullion {
using namespace detail;  // NOLINT

namespace {

constexpr int64_t kIgnored = -100;  // as in PyTorch

void check_targets(std::string_view op, const Tensor& targets, int64_t rows, int64_t V) {
  CHECK(targets.dtype() == DType::i64 && targets.rank() == 1 && targets.dim(0) == rows, op,
        ": targets of shape ", targets.shape(), " and type ", name_of(targets.dtype()), " for ",
        rows, " rows");
  if (targets.device().type != DeviceType::cpu) return;  // integers_beside() says why
  const Tensor dense = raw::contiguous(targets);
  const int64_t* target = dense.data<int64_t>();
  for (int64_t i = 0; i < rows; ++i)
    CHECK(target[i] == kIgnored || (target[i] >= 0 && target[i] < V), op, ": target ", target[i],
          " of row ", i, " is outside the ", V, " classes (", kIgnored, " is ignored)");
}

Tensor total(const Tensor& row_losses, double scale) {
  return raw::reshape(sum_axis(row_losses, 0, scale), {});
}

}  // namespace

// loss = s sum(lse(z) - z[t]): dz = s g (softmax(z) - onehot(t))
Tensor cross_entropy(const Tensor& logits, const Tensor& targets, double scale) {
  const OpScope scope("cross_entropy");
  const auto [N, V] = dims<2>("cross_entropy", "logits", logits);
  check_targets("cross_entropy", targets, N, V);
  const bool need = grad_enabled() && requires_grad(logits);
  const Tensor t = integers_beside("cross_entropy", targets, logits);
  const Tensor z = raw::clone(logits), loss = empty_exact({N}, z);
  table(z).cross_entropy({.logits = z.data<void>(),
                          .targets = t.data<int64_t>(),
                          .loss = loss.data<void>(),
                          .dtype = z.dtype(),
                          .rows = N,
                          .width = V,
                          .write_grad = need});
  return record(
      "cross_entropy", total(loss, scale), {logits},
      [z = detached(z), scale](const Tensor& g) -> Gradients { return {scaled_by(z, g, scale)}; });
}

// loss = s sum(lse(z) sum(p) - sum(p z)): dz = s g (softmax(z) sum(p) - p)
Tensor soft_cross_entropy(const Tensor& logits, const Tensor& probabilities, double scale) {
  const OpScope scope("soft_cross_entropy");
  check_same_shape("soft_cross_entropy", logits, probabilities);
  check_exact_dtype("soft_cross_entropy", logits, probabilities);
  const auto [N, V] = dims<2>("soft_cross_entropy", "logits", logits);
  CHECK(!requires_grad(probabilities), "soft_cross_entropy: has no gradient for the probabilities");
  const Tensor z = raw::contiguous(logits), p = raw::contiguous(probabilities);
  const bool need = grad_enabled() && requires_grad(logits);
  const Tensor loss = empty_exact({N}, z), dz = need ? empty_like(z) : Tensor();
  table(z).soft_cross_entropy({.logits = z.data<void>(),
                               .probabilities = p.data<void>(),
                               .loss = loss.data<void>(),
                               .dlogits = need ? dz.data<void>() : nullptr,
                               .dtype = z.dtype(),
                               .rows = N,
                               .width = V});
  return record("soft_cross_entropy", total(loss, scale), {logits},
                [dz, scale](const Tensor& g) -> Gradients { return {scaled_by(dz, g, scale)}; });
}

// As cross_entropy after linear: with e = s (softmax - onehot), dx = g e W, dW = g e^T x. Logits
// exist for chunk_rows rows at a time, and their product is made once.
Tensor linear_cross_entropy(const Tensor& x_in, const Weight& weight, const Tensor& targets,
                            double scale, int64_t chunk_rows) {
  const OpScope scope("linear_cross_entropy");
  const auto [N, C] = dims<2>("linear_cross_entropy", "x", x_in);
  CHECK(weight.rank() == 2 && weight.dim(1) == C, "linear_cross_entropy: x of shape ", x_in.shape(),
        " and a weight of shape ", weight.shape());
  CHECK(chunk_rows > 0, "linear_cross_entropy: chunks of ", chunk_rows, " rows");
  const int64_t V = weight.dim(0);
  check_targets("linear_cross_entropy", targets, N, V);
  check_weight_type("linear_cross_entropy", x_in, weight);
  const bool need_x = grad_enabled() && requires_grad(x_in);
  const bool need_w = grad_enabled() && requires_grad(weight);
  const Tensor x = raw::contiguous(x_in);
  const Weight w = kept(weight);
  const Tensor t = integers_beside("linear_cross_entropy", targets, x);
  const Tensor loss = empty_exact({N}, x);
  const Tensor dx = need_x ? empty_like(x) : Tensor();
  const Tensor dw = need_w ? Tensor::zeros(w.shape(), w.tensor().dtype(), w.device()) : Tensor();
  const int64_t* target = t.data<int64_t>();
  for (int64_t begin = 0; begin < N; begin += chunk_rows) {
    const int64_t end = std::min(N, begin + chunk_rows);
    const Tensor rows = raw::slice(x, 0, begin, end), part = raw::slice(loss, 0, begin, end);
    const Tensor z = empty({end - begin, V}, x);
    times_weight(rows, w, z);
    table(x).cross_entropy({.logits = z.data<void>(),
                            .targets = target + begin,
                            .loss = part.data<void>(),
                            .dtype = z.dtype(),
                            .rows = end - begin,
                            .width = V,
                            .write_grad = need_x || need_w});
    if (need_x) back_through_weight(z, w, raw::slice(dx, 0, begin, end), {.alpha = scale});
    if (need_w) multiply(z, rows, dw, {.transpose_a = true, .alpha = scale, .beta = 1});
  }
  return record("linear_cross_entropy", total(loss, scale), {x_in, weight.tensor()},
                [dx, dw](const Tensor& g) -> Gradients {
                  const auto times = [&](const Tensor& d) {
                    return d.defined() ? scaled_by(d, g) : d;
                  };
                  return {times(dx), times(dw)};
                });
}

}  // namespace mullion
