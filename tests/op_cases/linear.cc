// Rows of autograd/ops/linear.cc.
#include <algorithm>
#include <cmath>

#include "tests/autograd/op_table.h"

namespace mullion::test {
namespace {

using In = std::vector<Tensor>;
using Ref = std::vector<Values>;

// x (rows, in) W (out, in)^T
Values times_transposed(const Values& x, const Values& w, size_t in) {
  const size_t rows = x.size() / in, out = w.size() / in;
  Values y(rows * out, 0.0);
  for (size_t r = 0; r < rows; ++r)
    for (size_t o = 0; o < out; ++o)
      for (size_t i = 0; i < in; ++i) y[r * out + o] += x[r * in + i] * w[o * in + i];
  return y;
}

// For each of `batch`: a (m, k) times b (k, n), b shared where it holds one matrix.
Values product(const Values& a, const Values& b, size_t batch, size_t m, size_t k, size_t n) {
  Values c(batch * m * n, 0.0);
  const size_t step = b.size() == k * n ? 0 : k * n;
  for (size_t t = 0; t < batch; ++t)
    for (size_t i = 0; i < m; ++i)
      for (size_t j = 0; j < n; ++j)
        for (size_t l = 0; l < k; ++l)
          c[(t * m + i) * n + j] += a[(t * m + i) * k + l] * b[t * step + l * n + j];
  return c;
}

Values biased(Values y, const Values& bias) {
  for (size_t i = 0; i < y.size(); ++i) y[i] += bias[i % bias.size()];
  return y;
}

Values with_gelu(Values y) {
  for (double& x : y) x *= 0.5 * std::erfc(-x * std::sqrt(0.5));
  return y;
}

}  // namespace

std::vector<OpRow> linear_rows() {
  std::vector<OpRow> rows = {
      {"matmul",
       "one_matrix",
       {{{5, 7}}, {{7, 3}}},
       [](const In& in) { return matmul(in[0], in[1]); },
       [](const Ref& in) { return product(in[0], in[1], 1, 5, 7, 3); }},
      {"matmul",
       "batch",
       {{{2, 3, 4, 5}}, {{2, 3, 5, 6}}},
       [](const In& in) { return matmul(in[0], in[1]); },
       [](const Ref& in) { return product(in[0], in[1], 6, 4, 5, 6); }},
      {"matmul",
       "shared",
       {{{3, 4, 5}}, {{5, 6}}},
       [](const In& in) { return matmul(in[0], in[1]); },
       [](const Ref& in) { return product(in[0], in[1], 3, 4, 5, 6); }},
      {"linear",
       "no_bias",
       {{{2, 3, 5}}, {{4, 5}}},
       [](const In& in) { return linear(in[0], in[1]); },
       [](const Ref& in) { return times_transposed(in[0], in[1], 5); }},
      {"linear",
       "one_row",
       {{{1, 40}}, {{33, 40}}, {{33}}},
       [](const In& in) { return linear(in[0], in[1], in[2]); },
       [](const Ref& in) {
         Values y = times_transposed(in[0], in[1], 40);
         for (size_t i = 0; i < y.size(); ++i) y[i] += in[2][i];
         return y;
       }},
      {"linear",
       "bias",
       {{{70, 9}}, {{11, 9}}, {{11}}},
       [](const In& in) { return linear(in[0], in[1], in[2]); },
       [](const Ref& in) {
         Values y = times_transposed(in[0], in[1], 9);
         for (size_t i = 0; i < y.size(); ++i) y[i] += in[2][i % 11];
         return y;
       }},
      {"linear",
       "residual",
       {{{2, 3, 9}}, {{11, 9}}, {{11}}, {{2, 3, 11}}},
       [](const In& in) { return linear(in[0], in[1], in[2], in[3]); },
       [](const Ref& in) {
         return biased(biased(times_transposed(in[0], in[1], 9), in[2]), in[3]);
       }},
      {"linear",
       "residual_no_bias",
       {{{3, 70}}, {{5, 70}}, {{3, 5}}},
       [](const In& in) { return linear(in[0], in[1], {}, in[2]); },
       [](const Ref& in) { return biased(times_transposed(in[0], in[1], 70), in[2]); }},
      {"linear_gelu",
       "bias",
       {{{2, 3, 9}}, {{11, 9}}, {{11}}},
       [](const In& in) { return linear_gelu(in[0], in[1], in[2]); },
       [](const Ref& in) { return with_gelu(biased(times_transposed(in[0], in[1], 9), in[2])); }},
      {"linear_gelu",
       "no_bias",
       {{{70, 5}}, {{16, 5}}},
       [](const In& in) { return linear_gelu(in[0], in[1]); },
       [](const Ref& in) { return with_gelu(times_transposed(in[0], in[1], 5)); }},
      {"lora_linear",
       "all_trained",
       {{{2, 5, 6}}, {{7, 6}}, {{2, 6}}, {{7, 2}}},
       [](const In& in) { return lora_linear(in[0], in[1], in[2], in[3], 1.5); },
       [](const Ref& in) {
         Values y = times_transposed(in[0], in[1], 6);
         const Values low = times_transposed(times_transposed(in[0], in[2], 6), in[3], 2);
         for (size_t i = 0; i < y.size(); ++i) y[i] += 1.5 * low[i];
         return y;
       }},
      {"embedding",
       "",
       {{{6, 3}}, {{2, 4}, false, 0, 0, {0, 5, 5, 2, 1, 0, 5, 3}}},
       [](const In& in) { return embedding(in[0], in[1]); },
       [](const Ref& in) {
         Values y;
         for (const double id : in[1])
           for (size_t c = 0; c < 3; ++c) y.push_back(in[0][static_cast<size_t>(id) * 3 + c]);
         return y;
       }}};
  // Only the pair is trained: the weight is used and no gradient made. With the residual on top.
  OpRow frozen = *std::find_if(rows.begin(), rows.end(),
                               [](const OpRow& row) { return row.op == "lora_linear"; });
  frozen.variant = "frozen_weight";
  frozen.inputs[1].differentiable = false;
  rows.push_back(frozen);
  OpRow summed = frozen;
  summed.variant = "residual";
  summed.inputs.push_back({{2, 5, 7}});
  summed.call = [](const In& in) { return lora_linear(in[0], in[1], in[2], in[3], 1.5, in[4]); };
  summed.reference = [plain = frozen.reference](const Ref& in) { return biased(plain(in), in[4]); };
  rows.push_back(summed);
  return rows;
}

}  // namespace mullion::test
