// Student's t: its distribution by Simpson's rule, its quantile by halving.
#include "apps/reproduce/statistics.h"

#include <cmath>
#include <numbers>

#include "tensor/check.h"

namespace mullion {

// With t = sqrt(n) tan(a) the density becomes a power of the cosine, which is smooth on a bounded
// range, so that Simpson's rule has its twelve digits.
double student_t_cdf(double t, int freedom) {
  CHECK(freedom >= 1, "student_t_cdf: ", freedom, " degrees of freedom");
  const double n = freedom, end = std::atan(std::abs(t) / std::sqrt(n));
  constexpr int kSteps = 2000;
  double sum = 0;
  for (int i = 0; i <= kSteps; ++i) {
    const double weight = i == 0 || i == kSteps ? 1 : i % 2 == 1 ? 4 : 2;
    sum += weight * std::pow(std::cos(end * i / kSteps), n - 1);
  }
  const double scale =
      std::exp(std::lgamma((n + 1) / 2) - std::lgamma(n / 2)) / std::sqrt(std::numbers::pi);
  const double part = scale * sum * end / kSteps / 3;
  return t < 0 ? 0.5 - part : 0.5 + part;
}

double student_t_quantile(double probability, int freedom) {
  CHECK(probability > 0 && probability < 1, "student_t_quantile: probability ", probability);
  double low = -1, high = 1;
  while (student_t_cdf(low, freedom) > probability) low *= 2;
  while (student_t_cdf(high, freedom) < probability) high *= 2;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (student_t_cdf(middle, freedom) < probability ? low : high) = middle;
  }
  return (low + high) / 2;
}

Spread spread_of(const std::vector<double>& values) {
  CHECK(!values.empty(), "spread_of: no value");
  const auto n = static_cast<double>(values.size());
  Spread spread;
  for (const double value : values) spread.mean += value / n;
  if (values.size() == 1) return spread;
  double squares = 0;
  for (const double value : values) squares += (value - spread.mean) * (value - spread.mean);
  spread.half = student_t_quantile(0.975, static_cast<int>(values.size()) - 1) *
                std::sqrt(squares / (n - 1) / n);
  return spread;
}

}  // namespace mullion
