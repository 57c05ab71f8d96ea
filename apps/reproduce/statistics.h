// What several seeds say together.
#pragma once
#include <optional>
#include <vector>

namespace mullion {

// P(T <= t) and its inverse for Student's t with `freedom` >= 1 degrees of freedom.
double student_t_cdf(double t, int freedom);
double student_t_quantile(double probability, int freedom);

struct Spread {
  double mean = 0;
  std::optional<double> half;  // of the 95 % interval of the mean by t; none for one value
};
Spread spread_of(const std::vector<double>& values);  // at least one

}  // namespace mullion
