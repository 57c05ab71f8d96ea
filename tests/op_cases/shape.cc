// Rows of autograd/ops/shape.cc, reduce.cc and random.cc.
#include "tensor/random.h"
#include "tests/autograd/op_table.h"

namespace mullion::test {
namespace {

using In = std::vector<Tensor>;
using Ref = std::vector<Values>;

// y = x * mask with the mask of (seed 5, stream 9): element i is kept where its uniform number is
// below 1 - p, and divided by 1 - p.
Values masked(const Values& x, double p, size_t elements_a_draw) {
  Values y = x;
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t draw = i / elements_a_draw;
    const PhiloxBlock block = philox(5, 9, draw / 4);
    const double u = static_cast<double>(uniform_from_bits(block.v[draw % 4]));
    y[i] = u < 1 - p ? y[i] / (1 - p) : 0;
  }
  return y;
}

}  // namespace

std::vector<OpRow> shape_rows() {
  return {
      {"reshape",
       "",
       {{{2, 6}}},
       [](const In& in) {
         return reshape(in[0], {3, -1});
       },
       [](const Ref& in) { return in[0]; }},
      {"cast",
       "to_the_same_type",  // to another one: tests/autograd/cast_test.cc
       {{{2, 6}}},
       [](const In& in) { return cast(in[0], in[0].dtype()); },
       [](const Ref& in) { return in[0]; }},
      {"permute",
       "",
       {{{2, 3, 4}}},
       [](const In& in) {
         return permute(in[0], {2, 0, 1});
       },
       [](const Ref& in) {
         Values y;
         for (size_t k = 0; k < 4; ++k)
           for (size_t i = 0; i < 2; ++i)
             for (size_t j = 0; j < 3; ++j) y.push_back(in[0][(i * 3 + j) * 4 + k]);
         return y;
       }},
      {"slice",
       "",
       {{{3, 5}}},
       [](const In& in) { return slice(in[0], 1, 1, 4); },
       [](const Ref& in) {
         Values y;
         for (size_t i = 0; i < 3; ++i)
           for (size_t j = 1; j < 4; ++j) y.push_back(in[0][i * 5 + j]);
         return y;
       }},
      {"concat",
       "",
       {{{2, 2}}, {{2, 3}}},
       [](const In& in) {
         return concat({in[0], in[1]}, 1);
       },
       [](const Ref& in) {
         Values y;
         for (size_t i = 0; i < 2; ++i) {
           for (size_t j = 0; j < 2; ++j) y.push_back(in[0][i * 2 + j]);
           for (size_t j = 0; j < 3; ++j) y.push_back(in[1][i * 3 + j]);
         }
         return y;
       }},
      {"roll",
       "",
       {{{2, 5}}},
       [](const In& in) { return roll(in[0], 1, 7); },
       [](const Ref& in) {
         Values y(10);
         for (size_t i = 0; i < 2; ++i)
           for (size_t j = 0; j < 5; ++j) y[i * 5 + (j + 7) % 5] = in[0][i * 5 + j];
         return y;
       }},
      {"sum",
       "all",
       {{{4, 9}}},
       [](const In& in) { return sum(in[0]); },
       [](const Ref& in) {
         double s = 0;
         for (const double v : in[0]) s += v;
         return Values{s};
       }},
      {"sum",
       "middle_axis",
       {{{2, 33, 3}}},
       [](const In& in) { return sum(in[0], 1, true); },
       [](const Ref& in) {
         Values y(6, 0.0);
         for (size_t i = 0; i < in[0].size(); ++i) y[i / 99 * 3 + i % 3] += in[0][i];
         return y;
       }},
      {"mean",
       "last_axis",
       {{{5, 21}}},
       [](const In& in) { return mean(in[0], -1); },
       [](const Ref& in) {
         Values y(5, 0.0);
         for (size_t i = 0; i < in[0].size(); ++i) y[i / 21] += in[0][i] / 21;
         return y;
       }},
      {"dropout",
       "",
       {{{6, 11}}},
       [](const In& in) { return dropout(in[0], 0.3, 5, 9); },
       [](const Ref& in) { return masked(in[0], 0.3, 1); }},
      {"drop_path",
       "",
       {{{9, 2, 3}}, {{1}, false, 0, 0, {9}}},
       [](const In& in) { return drop_path(in[0], 0.4, 5, in[1]); },
       [](const Ref& in) { return masked(in[0], 0.4, 6); }},
  };
}

}  // namespace mullion::test
