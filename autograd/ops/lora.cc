// Linear layers with LoRA pairs, of which several may read one x. What they share is done once:
// with A of several pairs one below the other, h = x A^T holds a block of columns for each, and the
// gradients of x and of all A are one product each. B of one shape that lie one after another are
// one product of batches.
#include "autograd/ops.h"
#include "autograd/ops/common.h"

namespace mullion {
using namespace detail;  // NOLINT

namespace {

// Elements of x's storage, `first` after x's own first.
Tensor view(const Tensor& x, int64_t first, Shape shape, Shape strides) {
  auto impl = std::make_shared<Tensor::Impl>(x.impl());
  impl->offset += first;
  impl->shape = shape;
  impl->strides = strides;
  impl->grad_data = nullptr;
  return Tensor(std::move(impl));
}

// Contiguous x and, behind it, `more` along its first axis.
Tensor extended(const Tensor& x, int64_t more) {
  Shape shape = x.shape();
  shape[0] += more;
  return view(x, 0, shape, shape.strides());
}

// Whether `next` begins where x ends. Both are contiguous.
bool follows(const Tensor& x, const Tensor& next) {
  return x.impl().storage == next.impl().storage && x.dtype() == next.dtype() &&
         x.impl().offset + x.numel() == next.impl().offset;
}

// `count` blocks of `width` columns of a matrix: (count, rows, width).
Tensor blocks(const Tensor& matrix, int64_t column, int64_t count, int64_t width) {
  return view(matrix, column, {count, matrix.dim(0), width}, {width, matrix.dim(1), 1});
}

// Matrix i of (n, rows, columns).
Tensor matrix(const Tensor& x, size_t i) {
  return view(x, static_cast<int64_t>(i) * x.strides()[0], {x.dim(1), x.dim(2)},
              {x.strides()[1], x.strides()[2]});
}

// Pairs whose B are one batch.
struct Up {
  std::vector<size_t> members;  // of the projections
  int64_t column;               // of the first one's block of h
  Tensor b;                     // (members, out, r)

  int64_t count() const { return static_cast<int64_t>(members.size()); }
  int64_t rank() const { return b.dim(2); }
};

// Pairs whose A are one product.
struct Down {
  Tensor a;  // (sum of r, in)
  std::vector<Up> ups;
  Tensor h;  // (rows, sum of r)
};

std::vector<Down> arranged(const std::vector<Projection>& projections) {
  std::vector<Down> downs;
  for (size_t i = 0; i < projections.size(); ++i) {
    if (!projections[i].lora_a.defined()) continue;
    const Tensor a = detached(raw::contiguous(projections[i].lora_a));
    const Tensor b = detached(raw::contiguous(projections[i].lora_b));
    if (downs.empty() || !follows(downs.back().a, a))
      downs.push_back({a, {}, {}});
    else
      downs.back().a = extended(downs.back().a, a.dim(0));
    Down& down = downs.back();
    const Shape one{1, b.dim(0), b.dim(1)};
    const bool joins = !down.ups.empty() && down.ups.back().b.dim(1) == one[1] &&
                       down.ups.back().rank() == one[2] && follows(down.ups.back().b, b);
    if (joins)
      down.ups.back().b = extended(down.ups.back().b, 1);
    else
      down.ups.push_back({{}, down.a.dim(0) - a.dim(0), view(b, 0, one, one.strides())});
    down.ups.back().members.push_back(i);
  }
  return downs;
}

void check(std::string_view op, const Tensor& x, const Projection& p) {
  check_weight(op, x, p.weight);
  CHECK(p.lora_a.defined() == p.lora_b.defined(), op, ": half a pair");
  if (!p.lora_a.defined()) return;
  const Tensor &a = p.lora_a, &b = p.lora_b;
  CHECK(a.rank() == 2 && b.rank() == 2 && a.dim(1) == p.weight.dim(1) &&
            b.dim(0) == p.weight.dim(0) && a.dim(0) == b.dim(1),
        op, ": A of shape ", a.shape(), " and B of shape ", b.shape(), " for a weight of shape ",
        p.weight.shape());
  for (const Tensor& factor : {a, b}) {
    check_exact_dtype(op, x, factor);
    check_same_device(op, x, factor);
  }
}

bool is_trained(const Tensor& x) { return x.defined() && requires_grad(x); }

// The backward, and what it needs of the forward.
struct LoraGradients {
  static constexpr size_t kInputs = 4;  // a projection's
  enum Place : size_t { weight = 1, lora_a, lora_b, residual };
  static size_t place(size_t member, Place what) { return kInputs * member + what; }

  Shape shape;  // of x
  Tensor rows;  // x; undefined where neither W nor A needs a gradient
  double scale;
  std::vector<Tensor> w;
  std::vector<Down> downs;
  std::vector<bool> need;  // by input

  bool needs(const Up& up, Place what) const {
    for (const size_t i : up.members)
      if (need[place(i, what)]) return true;
    return false;
  }

  Gradients operator()(const Gradients& given) const {
    std::vector<Tensor> g;
    for (size_t i = 0; i < w.size(); ++i)
      g.push_back(given[i].defined() ? as_rows(given[i]) : without_use(i, given));
    Gradients result(need.size());
    Tensor dx;
    if (need[0]) result[0] = raw::reshape(dx = through_weights(g), shape);
    for (const Down& down : downs) through_pairs(down, g, dx, result);
    for (size_t i = 0; i < w.size(); ++i) {
      if (need[place(i, weight)]) {
        result[place(i, weight)] = empty_like(w[i]);
        multiply(g[i], rows, result[place(i, weight)], {.transpose_a = true});
      }
      if (need[place(i, residual)]) result[place(i, residual)] = given[i];
    }
    return result;
  }

  // The gradient of a result that nothing uses, beside one that something does.
  Tensor without_use(size_t i, const Gradients& given) const {
    for (const Tensor& g : given)
      if (g.defined()) return Tensor::zeros({rows_of(g), w[i].dim(0)}, g.dtype(), g.device());
    fail(Fault::other, "lora_linears: no gradient of any result");
  }

  Tensor through_weights(const std::vector<Tensor>& g) const {
    const Tensor dx = empty({g[0].dim(0), w[0].dim(1)}, g[0]);
    for (size_t i = 0; i < w.size(); ++i) multiply(g[i], w[i], dx, {.beta = i == 0 ? 0.0 : 1.0});
    return dx;
  }

  void through_pairs(const Down& down, const std::vector<Tensor>& g, const Tensor& dx,
                     Gradients& result) const {
    const Tensor e = empty(down.h.shape(), g[0]);
    bool need_a = false;
    for (const Up& up : down.ups) {
      const bool need_b = needs(up, lora_b);
      need_a = need_a || needs(up, lora_a);
      const Tensor db = need_b ? empty_like(up.b) : Tensor();
      const Tensor h = blocks(down.h, up.column, up.count(), up.rank());
      const Tensor e_of = blocks(e, up.column, up.count(), up.rank());
      for (size_t j = 0; j < up.members.size(); ++j) {
        const size_t i = up.members[j];
        multiply(g[i], matrix(up.b, j), matrix(e_of, j), {.alpha = scale});
        if (!need_b) continue;
        multiply(g[i], matrix(h, j), matrix(db, j), {.transpose_a = true, .alpha = scale});
        if (need[place(i, lora_b)]) result[place(i, lora_b)] = matrix(db, j);
      }
    }
    if (dx.defined()) multiply(e, down.a, dx, {.beta = 1});
    if (!need_a) return;
    const Tensor da = empty_like(down.a);
    multiply(e, rows, da, {.transpose_a = true});
    for (const Up& up : down.ups)
      for (size_t j = 0; j < up.members.size(); ++j) {
        const int64_t first = up.column + static_cast<int64_t>(j) * up.rank();
        if (need[place(up.members[j], lora_a)])
          result[place(up.members[j], lora_a)] = raw::slice(da, 0, first, first + up.rank());
      }
  }
};

// y_i = x W_i^T + s h_i B_i^T + r_i with h_i = x A_i^T. With e_i = s g_i B_i:
// dx = sum of g_i W_i + e_i A_i, dA_i = e_i^T x, dB_i = s g_i^T h_i, dr_i = g_i, and dW_i = g_i^T x
// where W is trained as well. A frozen W is used, never kept in another form.
std::vector<Tensor> projected(std::string_view op, const Tensor& x,
                              const std::vector<Projection>& projections, double scale) {
  const Tensor rows = as_rows(x);
  const int64_t count = rows.dim(0);
  LoraGradients gradients{x.shape(), {}, scale, {}, arranged(projections), {requires_grad(x)}};
  std::vector<Tensor> inputs = {x}, y(projections.size());
  std::vector<Tensor> batches;
  for (const Down& down : gradients.downs)
    for (const Up& up : down.ups) {
      batches.push_back(empty({up.count(), count, up.b.dim(1)}, x));
      for (size_t j = 0; j < up.members.size(); ++j) y[up.members[j]] = matrix(batches.back(), j);
    }
  bool keep_x = false;
  for (size_t i = 0; i < projections.size(); ++i) {
    const Projection& p = projections[i];
    const Tensor r = residual_of(op, p.residual, x, p.weight.dim(0));
    gradients.w.push_back(detached(raw::contiguous(p.weight)));
    if (!y[i].defined()) y[i] = empty({count, p.weight.dim(0)}, x);
    multiply(rows, gradients.w[i], y[i], {.transpose_b = true, .residual = pointer(r)});
    for (const Tensor& input : {p.weight, p.lora_a, p.lora_b, p.residual}) {
      inputs.push_back(input);
      gradients.need.push_back(is_trained(input));
    }
    keep_x = keep_x || is_trained(p.weight) || is_trained(p.lora_a);
  }
  size_t batch = 0;
  for (Down& down : gradients.downs) {
    down.h = empty({count, down.a.dim(0)}, x);
    multiply(rows, down.a, down.h, {.transpose_b = true});
    for (const Up& up : down.ups)
      multiply(blocks(down.h, up.column, up.count(), up.rank()), up.b, batches[batch++],
               {.transpose_b = true, .alpha = scale, .beta = 1});
  }
  if (keep_x) gradients.rows = detached(rows);
  for (size_t i = 0; i < y.size(); ++i)
    y[i] = raw::reshape(y[i], with_last(x.shape(), projections[i].weight.dim(0)));
  return record_all(op, std::move(y), inputs, std::move(gradients));
}

}  // namespace

Tensor lora_linear(const Tensor& x, const Tensor& weight, const Tensor& lora_a,
                   const Tensor& lora_b, double scale, const Tensor& residual) {
  const Projection projection{weight, lora_a, lora_b, residual};
  check("lora_linear", x, projection);
  return projected("lora_linear", x, {projection}, scale)[0];
}

std::vector<Tensor> lora_linears(const Tensor& x, const std::vector<Projection>& projections,
                                 double scale) {
  CHECK(!projections.empty(), "lora_linears: no projections");
  for (const Projection& p : projections) check("lora_linears", x, p);
  return projected("lora_linears", x, projections, scale);
}

}  // namespace mullion
