// The lowest rung of the product and of the norm, and the oracle of the others: the formula, one
// operation after another, in double. Attention and MSA-Conv have theirs in
// tests/reference_attention.h and tests/reference_msa_conv.h.
#pragma once
#include <cmath>
#include <vector>

namespace mullion::test {

using Doubles = std::vector<double>;

// C = gelu(A W^T + bias): A is m x k, W n x k.
inline Doubles reference_product(const Doubles& a, const Doubles& w, const Doubles& bias, size_t m,
                                 size_t n, size_t k) {
  Doubles c(m * n);
  for (size_t row = 0; row < m; ++row)
    for (size_t column = 0; column < n; ++column) {
      double sum = bias[column];
      for (size_t i = 0; i < k; ++i) sum += a[row * k + i] * w[column * k + i];
      c[row * n + column] = sum * 0.5 * (1 + std::erf(sum / std::sqrt(2.0)));
    }
  return c;
}

// y = x w / sqrt(mean(x^2) + eps), row by row.
inline Doubles reference_rms_norm(const Doubles& x, const Doubles& w, double eps) {
  const size_t width = w.size();
  Doubles y(x.size());
  for (size_t row = 0; row < x.size(); row += width) {
    double squares = 0;
    for (size_t i = row; i < row + width; ++i) squares += x[i] * x[i];
    const double scale = 1 / std::sqrt(squares / static_cast<double>(width) + eps);
    for (size_t i = 0; i < width; ++i) y[row + i] = x[row + i] * scale * w[i];
  }
  return y;
}

}  // namespace mullion::test
