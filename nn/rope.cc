#include "nn/rope.h"

#include <cmath>

namespace mullion {

RopeTable::Slice RopeTable::at(int64_t begin, int64_t tokens) {
  CHECK(begin >= 0 && tokens >= 0, "rope: positions ", begin, " to ", begin + tokens);
  if (!cos_.defined() || cos_.dim(0) < begin + tokens) grow(begin + tokens);
  return {raw::slice(cos_, 0, begin, begin + tokens), raw::slice(sin_, 0, begin, begin + tokens)};
}

// The whole table again, to the next power of two: a generation asks for one position at a time.
void RopeTable::grow(int64_t positions) {
  int64_t rows = 64;
  while (rows < positions) rows *= 2;
  const int64_t half = static_cast<int64_t>(inv_freq_.size());
  cos_ = Tensor::empty({rows, half});
  sin_ = Tensor::empty({rows, half});
  float *c = cos_.data<float>(), *s = sin_.data<float>();
  for (int64_t t = 0; t < rows; ++t)
    for (int64_t i = 0; i < half; ++i) {
      // The product in f32, as every model in use was trained with; the functions in double.
      const double angle = static_cast<float>(t) * inv_freq_[static_cast<size_t>(i)];
      c[t * half + i] = static_cast<float>(std::cos(angle));
      s[t * half + i] = static_cast<float>(std::sin(angle));
    }
}

}  // namespace mullion
