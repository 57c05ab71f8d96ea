// Rows of autograd/ops/loss.cc.
#include <cmath>

#include "tests/autograd/op_table.h"

namespace mullion::test {
namespace {

using In = std::vector<Tensor>;
using Ref = std::vector<Values>;

double log_sum_exp(const Values& z, size_t begin, size_t V) {
  double total = 0;
  for (size_t v = 0; v < V; ++v) total += std::exp(z[begin + v]);
  return std::log(total);
}

double total_loss(const Values& z, const Values& targets, size_t V) {
  double loss = 0;
  for (size_t r = 0; r < targets.size(); ++r)
    if (targets[r] >= 0)
      loss += log_sum_exp(z, r * V, V) - z[r * V + static_cast<size_t>(targets[r])];
  return loss;
}

}  // namespace

std::vector<OpRow> loss_rows() {
  const OpInput targets{{5}, false, 0, 0, {3, 0, -100, 12, 7}};
  std::vector<OpRow> rows = {
      {"cross_entropy",
       "one_ignored",
       {{{5, 13}, true, -3, 3}, targets},
       [](const In& in) { return cross_entropy(in[0], in[1], 0.25); },
       [](const Ref& in) { return Values{0.25 * total_loss(in[0], in[1], 13)}; }},
      {"soft_cross_entropy",
       "",
       {{{4, 6}, true, -3, 3}, {{4, 6}, false, 0.01, 0.3}},
       [](const In& in) { return soft_cross_entropy(in[0], in[1], 0.5); },
       [](const Ref& in) {
         double loss = 0;
         for (size_t i = 0; i < 24; ++i)
           loss += in[1][i] * (log_sum_exp(in[0], i / 6 * 6, 6) - in[0][i]);
         return Values{0.5 * loss};
       }}};
  for (const int64_t chunk : {2, 5, 256})  // several chunks with a short last one, one, and larger
    rows.push_back(
        {"linear_cross_entropy",
         "chunks_of_" + std::to_string(chunk),
         {{{5, 4}}, {{13, 4}}, targets},
         [chunk](const In& in) { return linear_cross_entropy(in[0], in[1], in[2], 0.25, chunk); },
         [](const Ref& in) {
           Values z(5 * 13, 0.0);
           for (size_t r = 0; r < 5; ++r)
             for (size_t v = 0; v < 13; ++v)
               for (size_t c = 0; c < 4; ++c) z[r * 13 + v] += in[0][r * 4 + c] * in[1][v * 4 + c];
           return Values{0.25 * total_loss(z, in[2], 13)};
         }});
  return rows;
}

}  // namespace mullion::test
