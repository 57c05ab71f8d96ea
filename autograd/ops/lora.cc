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

// As many matrices as begin with this one: (count, rows, columns).
Tensor batch_from(const Tensor& matrix, int64_t count) {
  const Shape shape{count, matrix.dim(0), matrix.dim(1)};
  return view(matrix, 0, shape, shape.strides());
}

// Pairs whose B are one batch.
struct Up {
  std::vector<size_t> members;  // of the projections
  int64_t column;               // of the first one's block of h
  Tensor b;                     // (members, out, r)

  int64_t count() const { return static_cast<int64_t>(members.size()); }
  int64_t height() const { return b.dim(1); }
  int64_t rank() const { return b.dim(2); }
  // The blocks of n members, from `first` on, of a matrix with h's columns.
  Tensor blocks_of(const Tensor& matrix, int64_t first, int64_t n) const {
    return blocks(matrix, column + first * rank(), n, rank());
  }
};

// Pairs whose A are one product.
struct Down {
  Tensor a;  // (sum of r, in)
  std::vector<Up> ups;
  Tensor h;  // (rows, sum of r)

  // f(i, c, c + r): projection i has the columns c to c + r of h, and these rows of a.
  template <typename F>
  void for_each_pair(F f) const {
    for (const Up& up : ups)
      for (size_t j = 0; j < up.members.size(); ++j) {
        const int64_t begin = up.column + static_cast<int64_t>(j) * up.rank();
        f(up.members[j], begin, begin + up.rank());
      }
  }
};

// The masks of lora_dropout, made anew where they are needed. They hold 0 and 1, which are exact in
// every type; what is kept is multiplied by `factor` within the products.
struct Masks {
  double p = 0, factor = 1;
  RandomStream stream;
  std::vector<uint64_t> seeds;  // by projection

  bool on() const { return p > 0; }
  Tensor times(const Tensor& x, size_t i) const {
    return broadcast_binary("lora_dropout", BinaryOps::Mul, x,
                            random_mask(x.shape(), x, p, 1, seeds[i], stream));
  }
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
    const bool joins = !down.ups.empty() && down.ups.back().height() == b.dim(0) &&
                       down.ups.back().rank() == b.dim(1) && follows(down.ups.back().b, b);
    if (joins)
      down.ups.back().b = extended(down.ups.back().b, 1);
    else
      down.ups.push_back({{}, down.a.dim(0) - a.dim(0), batch_from(b, 1)});
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

Masks masks_of(std::string_view op, const Tensor& x, const std::vector<Projection>& projections,
               const LoraDropout& dropout) {
  CHECK(dropout.p >= 0 && dropout.p < 1, op, ": dropout with probability ", dropout.p,
        ", expected at least 0 and below 1");
  if (dropout.p == 0) return {};
  Masks masks{dropout.p, 1 / (1 - dropout.p), random_stream(op, dropout.stream, x), {}};
  for (const Projection& p : projections) masks.seeds.push_back(p.dropout_seed);
  return masks;
}

bool is_trained(const Tensor& x) { return x.defined() && requires_grad(x); }

// The backward, and what it needs of the forward.
struct LoraGradients {
  static constexpr size_t kInputs = 4;  // a projection's
  enum Place : size_t { weight = 1, lora_a, lora_b, residual };
  static size_t place(size_t member, Place what) { return kInputs * member + what; }

  Shape shape;  // of x
  Tensor rows;  // x; undefined where neither W nor A needs a gradient, or it is computed again
  std::function<Tensor()> again;
  double scale;
  Masks masks;
  std::vector<Weight> w;
  std::vector<Down> downs;
  std::vector<bool> need;  // by input

  Gradients operator()(const Gradients& given) const {
    std::vector<Tensor> g;
    for (size_t i = 0; i < w.size(); ++i)
      g.push_back(given[i].defined() ? as_rows(given[i]) : without_use(i, given));
    Gradients result(need.size());
    const Tensor x = again ? recomputed_input() : rows;
    Tensor dx;
    if (need[0]) result[0] = raw::reshape(dx = through_weights(g), shape);
    for (const Down& down : downs) through_pairs(down, g, x, dx, result);
    for (size_t i = 0; i < w.size(); ++i) {
      if (need[place(i, weight)]) {
        result[place(i, weight)] = empty_like(w[i].tensor());
        multiply(g[i], x, result[place(i, weight)], {.transpose_a = true});
      }
      if (need[place(i, residual)]) result[place(i, residual)] = given[i];
    }
    return result;
  }

  Tensor recomputed_input() const {
    NoGrad no_grad;
    return as_rows(again());
  }

  // The gradient of a result that nothing uses, beside one that something does.
  Tensor without_use(size_t i, const Gradients& given) const {
    for (const Tensor& g : given)
      if (g.defined()) return Tensor::zeros({rows_of(g), w[i].dim(0)}, g.dtype(), g.device());
    fail(Fault::other, "lora_linears: no gradient of any result");
  }

  Tensor through_weights(const std::vector<Tensor>& g) const {
    const Tensor dx = empty({g[0].dim(0), w[0].dim(1)}, g[0]);
    for (size_t i = 0; i < w.size(); ++i)
      back_through_weight(g[i], w[i], dx, {.beta = i == 0 ? 0.0 : 1.0});
    return dx;
  }

  void through_pairs(const Down& down, const std::vector<Tensor>& g, const Tensor& x,
                     const Tensor& dx, Gradients& result) const {
    const Tensor e = empty(down.h.shape(), g[0]);
    for (const Up& up : down.ups) through_batch(up, down.h, g, e, result);
    if (dx.defined()) through_a(down, e, dx);
    std::vector<size_t> members;
    std::vector<Shape> shapes;
    bool need_a = false;
    for (const Up& up : down.ups)
      for (const size_t i : up.members) {
        members.push_back(i);
        shapes.push_back({up.rank(), down.a.dim(1)});
        need_a = need_a || need[place(i, lora_a)];
      }
    if (!need_a) return;
    const std::vector<Tensor> da = empty_parts(shapes, down.a.dtype(), down.a.device());
    const Tensor all = view(da[0], 0, down.a.shape(), down.a.strides());
    if (!masks.on()) multiply(e, x, all, {.transpose_a = true});
    if (masks.on())
      down.for_each_pair([&](size_t i, int64_t begin, int64_t end) {
        multiply(raw::slice(e, 1, begin, end), masks.times(x, i), raw::slice(all, 0, begin, end),
                 {.transpose_a = true, .alpha = masks.factor});
      });
    for (size_t j = 0; j < members.size(); ++j)
      if (need[place(members[j], lora_a)]) result[place(members[j], lora_a)] = da[j];
  }

  void through_a(const Down& down, const Tensor& e, const Tensor& dx) const {
    if (!masks.on()) return multiply(e, down.a, dx, {.beta = 1});
    const Tensor part = empty_like(dx);
    down.for_each_pair([&](size_t i, int64_t begin, int64_t end) {
      multiply(raw::slice(e, 1, begin, end), raw::slice(down.a, 0, begin, end), part,
               {.alpha = masks.factor});
      const Tensor kept = masks.times(part, i);
      table(dx).accumulate({.x = kept.data<void>(),
                            .y = dx.data<void>(),
                            .dtype = dx.dtype(),
                            .n = dx.numel(),
                            .alpha = 1.0});
    });
  }

  // e and dB. Gradients that lie one after another, as those of attention and SwiGLU do, are a
  // batch as the pairs are.
  void through_batch(const Up& up, const Tensor& h, const std::vector<Tensor>& g, const Tensor& e,
                     Gradients& result) const {
    bool need_b = false;
    for (const size_t i : up.members) need_b = need_b || need[place(i, lora_b)];
    std::vector<Tensor> db;
    if (need_b)
      db = empty_parts(std::vector<Shape>(up.members.size(), {up.height(), up.rank()}),
                       up.b.dtype(), up.b.device());
    const auto g_of = [&](int64_t j) { return g[up.members[static_cast<size_t>(j)]]; };
    for (int64_t j = 0, n; j < up.count(); j += n) {
      for (n = 1; j + n < up.count() && follows(g_of(j + n - 1), g_of(j + n));) ++n;
      const Tensor batch = batch_from(g_of(j), n);
      multiply(batch, raw::slice(up.b, 0, j, j + n), up.blocks_of(e, j, n), {.alpha = scale});
      if (need_b)
        multiply(batch, up.blocks_of(h, j, n), batch_from(db[static_cast<size_t>(j)], n),
                 {.transpose_a = true, .alpha = scale});
    }
    for (size_t j = 0; j < db.size(); ++j)
      if (need[place(up.members[j], lora_b)]) result[place(up.members[j], lora_b)] = db[j];
  }
};

// y_i = x W_i^T + s h_i B_i^T + r_i with h_i = x A_i^T. With e_i = s g_i B_i:
// dx = sum of g_i W_i + e_i A_i, dA_i = e_i^T x, dB_i = s g_i^T h_i, dr_i = g_i, and dW_i = g_i^T x
// where W is trained as well. A frozen W is used, never kept in another form. With masks m_i of
// lora_dropout x m_i / (1 - p) stands for x beside A_i, and e_i A_i m_i / (1 - p) for e_i A_i.
std::vector<Tensor> projected(std::string_view op, const Tensor& x,
                              const std::vector<Projection>& projections, double scale,
                              const std::function<Tensor()>& again = {},
                              const LoraDropout& dropout = {}) {
  const OpScope scope(op);
  const Tensor rows = as_rows(x);
  const int64_t count = rows.dim(0);
  LoraGradients gradients{x.shape(),
                          {},
                          {},
                          scale,
                          masks_of(op, x, projections, dropout),
                          {},
                          arranged(projections),
                          {requires_grad(x)}};
  const Masks& masks = gradients.masks;
  std::vector<Tensor> inputs = {x}, y(projections.size());
  std::vector<Tensor> batches;
  for (const Down& down : gradients.downs)
    for (const Up& up : down.ups) {
      batches.push_back(empty({up.count(), count, up.height()}, x));
      for (size_t j = 0; j < up.members.size(); ++j)
        y[up.members[j]] = view(batches.back(), static_cast<int64_t>(j) * count * up.height(),
                                {count, up.height()}, {up.height(), 1});
    }
  bool keep_x = false;
  for (size_t i = 0; i < projections.size(); ++i) {
    const Projection& p = projections[i];
    const Tensor r = residual_of(op, p.residual, x, p.weight.dim(0));
    gradients.w.push_back(kept(p.weight));
    if (!y[i].defined()) y[i] = empty({count, p.weight.dim(0)}, x);
    times_weight(rows, gradients.w[i], y[i], {.residual = pointer(r)});
    for (const Tensor& input : {p.weight.tensor(), p.lora_a, p.lora_b, p.residual}) {
      inputs.push_back(input);
      gradients.need.push_back(is_trained(input));
    }
    keep_x = keep_x || requires_grad(p.weight) || is_trained(p.lora_a);
  }
  size_t batch = 0;
  for (Down& down : gradients.downs) {
    down.h = empty({count, down.a.dim(0)}, x);
    if (!masks.on()) multiply(rows, down.a, down.h, {.transpose_b = true});
    if (masks.on())
      down.for_each_pair([&](size_t i, int64_t begin, int64_t end) {
        multiply(masks.times(rows, i), raw::slice(down.a, 0, begin, end),
                 raw::slice(down.h, 1, begin, end), {.transpose_b = true, .alpha = masks.factor});
      });
    for (const Up& up : down.ups)
      multiply(up.blocks_of(down.h, 0, up.count()), up.b, batches[batch++],
               {.transpose_b = true, .alpha = scale, .beta = 1});
  }
  if (keep_x && again)
    gradients.again = again;
  else if (keep_x)
    gradients.rows = detached(rows);
  for (size_t i = 0; i < y.size(); ++i)
    y[i] = raw::reshape(y[i], with_last(x.shape(), projections[i].weight.dim(0)));
  return record_all(op, std::move(y), inputs, std::move(gradients));
}

}  // namespace

Tensor lora_linear(const Tensor& x, const Weight& weight, const Tensor& lora_a,
                   const Tensor& lora_b, double scale, const Tensor& residual) {
  const Projection projection{weight, lora_a, lora_b, residual};
  check("lora_linear", x, projection);
  return projected("lora_linear", x, {projection}, scale)[0];
}

std::vector<Tensor> lora_linears(const Tensor& x, const std::vector<Projection>& projections,
                                 double scale, const std::function<Tensor()>& again,
                                 const LoraDropout& dropout) {
  CHECK(!projections.empty(), "lora_linears: no projections");
  for (const Projection& p : projections) check("lora_linears", x, p);
  return projected("lora_linears", x, projections, scale, again, dropout);
}

}  // namespace mullion
