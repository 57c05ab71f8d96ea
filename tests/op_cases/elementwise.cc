// Rows of autograd/ops/elementwise.cc.
#include <cmath>

#include "tests/autograd/op_table.h"

namespace mullion::test {
namespace {

OpRow unary(const std::string& name, Tensor (*op)(const Tensor&), double (*f)(double),
            double low = -3, double high = 3) {
  return {name,
          "",
          {{{3, 37}, true, low, high}},
          [op](const std::vector<Tensor>& in) { return op(in[0]); },
          [f](const std::vector<Values>& in) {
            Values y = in[0];
            for (double& v : y) v = f(v);
            return y;
          }};
}

// Broadcasting by index: shapes are padded in front to rank 3.
Values broadcast(const Values& a, Shape sa, const Values& b, Shape sb,
                 const std::function<double(double, double)>& f) {
  const auto padded = [](Shape s) {
    Shape r;
    for (int i = s.rank(); i < 3; ++i) r.push_back(1);
    for (const int64_t n : s) r.push_back(n);
    return r;
  };
  sa = padded(sa);
  sb = padded(sb);
  Values y;
  for (int64_t i = 0; i < std::max(sa[0], sb[0]); ++i)
    for (int64_t j = 0; j < std::max(sa[1], sb[1]); ++j)
      for (int64_t k = 0; k < std::max(sa[2], sb[2]); ++k) {
        const auto at = [&](const Values& v, const Shape& s) {
          return v[static_cast<size_t>(((i % s[0]) * s[1] + j % s[1]) * s[2] + k % s[2])];
        };
        y.push_back(f(at(a, sa), at(b, sb)));
      }
  return y;
}

void add_binary(std::vector<OpRow>& rows, const std::string& name,
                Tensor (*op)(const Tensor&, const Tensor&), double (*f)(double, double), double low,
                double high) {
  for (const auto& [variant, a, b] : {std::tuple{"same_shape", Shape{2, 3, 17}, Shape{2, 3, 17}},
                                      {"last_axis", Shape{2, 3, 17}, Shape{17}},
                                      {"middle_axis", Shape{2, 3, 5}, Shape{2, 1, 5}},
                                      {"both_sides", Shape{3, 1}, Shape{2, 1, 4}},
                                      {"scalar", Shape{}, Shape{4, 5}}})
    rows.push_back({name,
                    variant,
                    {{a}, {b, true, low, high}},
                    [op](const std::vector<Tensor>& in) { return op(in[0], in[1]); },
                    [a = a, b = b, f](const std::vector<Values>& in) {
                      return broadcast(in[0], a, in[1], b, f);
                    }});
}

}  // namespace

std::vector<OpRow> elementwise_rows() {
  std::vector<OpRow> rows = {
      unary("neg", neg, [](double x) { return -x; }),
      unary("exp", exp, [](double x) { return std::exp(x); }),
      unary(
          "log", log, [](double x) { return std::log(x); }, 0.1, 4),
      unary(
          "sqrt", sqrt, [](double x) { return std::sqrt(x); }, 0.1, 4),
      unary("square", square, [](double x) { return x * x; }),
      unary("tanh", tanh, [](double x) { return std::tanh(x); }),
      unary("sigmoid", sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }),
      unary("relu", relu, [](double x) { return x > 0 ? x : 0; }),
      unary("silu", silu, [](double x) { return x / (1 + std::exp(-x)); }),
      unary("gelu", gelu, [](double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }),
      unary("gelu_tanh", gelu_tanh,
            [](double x) {
              return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
            }),
      {"affine",
       "",
       {{{5, 7}}},
       [](const std::vector<Tensor>& in) { return affine(in[0], -1.5, 0.25); },
       [](const std::vector<Values>& in) {
         Values y = in[0];
         for (double& v : y) v = -1.5 * v + 0.25;
         return y;
       }},
      {"swiglu",
       "",
       {{{3, 19}}, {{3, 19}}},
       [](const std::vector<Tensor>& in) { return swiglu(in[0], in[1]); },
       [](const std::vector<Values>& in) {
         Values y = in[0];
         for (size_t i = 0; i < y.size(); ++i) y[i] = y[i] / (1 + std::exp(-y[i])) * in[1][i];
         return y;
       }}};
  add_binary(
      rows, "add", add, [](double a, double b) { return a + b; }, -1.5, 1.5);
  add_binary(
      rows, "sub", sub, [](double a, double b) { return a - b; }, -1.5, 1.5);
  add_binary(
      rows, "mul", mul, [](double a, double b) { return a * b; }, -1.5, 1.5);
  add_binary(
      rows, "div", div, [](double a, double b) { return a / b; }, 0.5, 2.0);
  return rows;
}

}  // namespace mullion::test
