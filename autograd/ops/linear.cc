// Matrix products and lookups. A weight that needs no gradient lets the op forget its input: the
// gradient of the input alone is g W.
#include "autograd/ops.h"
#include "autograd/ops/common.h"

namespace mullion {
using namespace detail;  // NOLINT

// c = a b: da = g b^T, db = a^T g (summed over the batch where b is shared)
Tensor matmul(const Tensor& a_in, const Tensor& b_in) {
  const OpScope scope("matmul");
  check_same_dtype("matmul", a_in, b_in);
  check_same_device("matmul", a_in, b_in);
  const Tensor a = raw::contiguous(a_in), b = raw::contiguous(b_in);
  CHECK(a.rank() >= 2 && b.rank() >= 2 && a.dim(-1) == b.dim(-2), "matmul: shapes ", a.shape(),
        " and ", b.shape());
  const bool shared = b.rank() == 2;
  int64_t batch = 1;
  for (int axis = 0; axis < a.rank() - 2; ++axis) {
    CHECK(shared || (b.rank() == a.rank() && b.shape()[axis] == a.shape()[axis]),
          "matmul: leading axes of ", a.shape(), " and ", b.shape(), " differ");
    batch *= a.shape()[axis];
  }
  CHECK(shared || b.rank() == a.rank(), "matmul: shapes ", a.shape(), " and ", b.shape());
  const int64_t m = a.dim(-2), k = a.dim(-1), n = b.dim(-1);
  const Shape of_a{batch, m, k}, of_b{batch, k, n}, of_c{batch, m, n};
  // As batches; a shared b is every matrix of its batch, at a distance of 0.
  const Tensor as = raw::reshape(a, of_a),
               bs = shared ? raw::expand(b, of_b) : raw::reshape(b, of_b);
  const Tensor c = empty(of_c, a);
  multiply(as, bs, c);
  return record("matmul", raw::reshape(c, with_last(a.shape(), n)), {a_in, b_in},
                [as = detached(as), bs = detached(bs), a_shape = a.shape(), b_shape = b.shape(),
                 need_a = requires_grad(a_in), need_b = requires_grad(b_in),
                 shared](const Tensor& g_in) -> Gradients {
                  const Tensor g = raw::reshape(g_in, {as.dim(0), as.dim(1), bs.dim(2)});
                  Gradients result(2);
                  if (need_a) {
                    const Tensor da = empty(as.shape(), g);
                    multiply(g, bs, da, {.transpose_b = true});
                    result[0] = raw::reshape(da, a_shape);
                  }
                  if (need_b) {
                    const Tensor db = empty(shared ? b_shape : bs.shape(), g);
                    if (shared)
                      multiply(raw::reshape(as, {as.dim(0) * as.dim(1), as.dim(2)}),
                               raw::reshape(g, {g.dim(0) * g.dim(1), g.dim(2)}), db,
                               {.transpose_a = true});
                    else
                      multiply(as, g, db, {.transpose_a = true});
                    result[1] = raw::reshape(db, b_shape);
                  }
                  return result;
                });
}

namespace {

void check_linear(std::string_view op, const Tensor& x, const Weight& weight, const Tensor& bias) {
  check_weight(op, x, weight);
  if (!bias.defined()) return;
  check_exact_dtype(op, x, bias);
  CHECK(bias.rank() == 1 && bias.dim(0) == weight.dim(0), op, ": a bias of shape ", bias.shape(),
        " for a weight of shape ", weight.shape());
}

// Of x, W and b in x W^T + b: dx = g W, dW = g^T x, db = sum of g over rows.
struct LinearGradients {
  Tensor x_rows;  // undefined where W needs no gradient
  Weight w;
  Shape shape;  // of x
  bool need_x, need_bias;

  LinearGradients(const Tensor& x, const Tensor& rows, const Weight& weight, const Tensor& bias)
      : x_rows(requires_grad(weight) ? detached(rows) : Tensor()),
        w(kept(weight)),
        shape(x.shape()),
        need_x(requires_grad(x)),
        need_bias(bias.defined() && requires_grad(bias)) {}

  Gradients operator()(const Tensor& g) const {
    const Tensor grad_rows = as_rows(g);
    Gradients result(3);
    if (need_x) {
      const Tensor dx = empty({grad_rows.dim(0), w.dim(1)}, g);
      back_through_weight(grad_rows, w, dx);
      result[0] = raw::reshape(dx, shape);
    }
    if (x_rows.defined()) {
      result[1] = empty_like(w.tensor());
      multiply(grad_rows, x_rows, result[1], {.transpose_a = true});
    }
    if (need_bias) result[2] = raw::reshape(sum_axis(grad_rows, 0, 1, true), {w.dim(0)});
    return result;
  }
};

}  // namespace

// y = x W^T + b + r: dr = g
Tensor linear(const Tensor& x, const Weight& weight, const Tensor& bias, const Tensor& residual) {
  const OpScope scope("linear");
  check_linear("linear", x, weight, bias);
  const Tensor rows = as_rows(x);
  const Tensor r = residual_of("linear", residual, x, weight.dim(0));
  const Tensor y = empty({rows.dim(0), weight.dim(0)}, x);
  times_weight(rows, kept(weight), y, {.bias = pointer(bias), .residual = pointer(r)});
  return record("linear", raw::reshape(y, with_last(x.shape(), weight.dim(0))),
                {x, weight.tensor(), bias, residual},
                [gradients = LinearGradients(x, rows, weight, bias)](const Tensor& g) -> Gradients {
                  Gradients result = gradients(g);
                  result.push_back(g);
                  return result;
                });
}

// y = gelu(z) with z = x W^T + b: dz = g gelu'(z). z is kept, where a gradient is needed at all.
Tensor linear_gelu(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const OpScope scope("linear_gelu");
  check_linear("linear_gelu", x, weight, bias);
  const bool need = grad_enabled() && (requires_grad(x) || requires_grad(weight) ||
                                       (bias.defined() && requires_grad(bias)));
  const Tensor rows = as_rows(x), w = raw::contiguous(weight);
  const Tensor y = empty({rows.dim(0), weight.dim(0)}, x), z = need ? empty_like(y) : Tensor();
  multiply(rows, w, y,
           {.transpose_b = true, .bias = pointer(bias), .gelu = true, .before_gelu = pointer(z)});
  return record(
      "linear_gelu", raw::reshape(y, with_last(x.shape(), weight.dim(0))), {x, weight, bias},
      [z, gradients = LinearGradients(x, rows, weight, bias)](const Tensor& g) -> Gradients {
        const Tensor dz = empty_like(z);
        // The derivative does not look at y.
        table(z).unary_backward[UnaryOps::Gelu]({.x = z.data<void>(),
                                                 .y = z.data<void>(),
                                                 .g = g.data<void>(),
                                                 .dx = dz.data<void>(),
                                                 .dtype = z.dtype(),
                                                 .n = z.numel()});
        return gradients(dz);
      });
}

namespace {
void check_ids(const Tensor& ids, int64_t V) {
  if (ids.device().type != DeviceType::cpu) return;
  const Tensor dense = raw::contiguous(ids);
  const int64_t* id = dense.data<int64_t>();
  for (int64_t i = 0; i < dense.numel(); ++i)
    CHECK(id[i] >= 0 && id[i] < V, "embedding: id ", id[i], " at position ", i,
          " is outside the vocabulary of ", V);
}

Tensor rows_of_blocks(const BlockMatrix& blocks, const Tensor& ids_in) {
  check_ids(ids_in, blocks.rows());
  const Tensor ids = integers_beside("embedding", ids_in, blocks.bytes());
  Shape shape = ids.shape();
  shape.push_back(blocks.width());
  const Tensor y = Tensor::empty(shape, DType::f32, blocks.device());
  table(y).block_rows({.blocks = blocks.bytes().data<void>(),
                       .ids = ids.data<int64_t>(),
                       .y = y.data<void>(),
                       .type = blocks.type(),
                       .dtype = y.dtype(),
                       .count = ids.numel(),
                       .rows = blocks.rows(),
                       .width = blocks.width()});
  return y;
}
}  // namespace

// y[i] = E[id_i]: dE[r] = sum of g[i] over the i with id_i = r
Tensor embedding(const Weight& given, const Tensor& ids_in) {
  const OpScope scope("embedding");
  CHECK(given.rank() == 2, "embedding: a table of shape ", given.shape());
  CHECK(ids_in.dtype() == DType::i64, "embedding: ids of type ", name_of(ids_in.dtype()));
  if (given.is_blocks()) return rows_of_blocks(given.blocks(), ids_in);
  const Tensor& table_in = given.tensor();
  const Tensor rows = raw::contiguous(table_in);
  const int64_t count = ids_in.numel(), V = rows.dim(0), C = rows.dim(1);
  check_ids(ids_in, V);
  const Tensor ids = integers_beside("embedding", ids_in, rows);
  Shape shape = ids.shape();
  shape.push_back(C);
  const DType dtype = rows.dtype() == DType::bf16 ? DType::f32 : rows.dtype();
  CHECK(rows.dtype() == dtype || !requires_grad(table_in),
        "embedding: a bf16 table cannot be trained; load it as f32");
  const Tensor y = Tensor::empty(shape, dtype, rows.device());
  table(rows).embedding({.table = rows.data<void>(),
                         .table_type = rows.dtype(),
                         .ids = ids.data<int64_t>(),
                         .y = y.data<void>(),
                         .dtype = dtype,
                         .count = count,
                         .rows = V,
                         .width = C});
  return record("embedding", y, {table_in}, [ids, V, C](const Tensor& g) -> Gradients {
    const Tensor dtable = empty({V, C}, g);
    table(g).embedding_backward({.g = g.data<void>(),
                                 .ids = ids.data<int64_t>(),
                                 .dtable = dtable.data<void>(),
                                 .dtype = g.dtype(),
                                 .count = ids.numel(),
                                 .rows = V,
                                 .width = C});
    return {dtable};
  });
}

}  // namespace mullion
