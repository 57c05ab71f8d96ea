// Tables grow to powers of two behind a lock, for models are shared by threads.
#include "nn/rope.h"

#include <algorithm>
#include <cmath>

#include "autograd/ops.h"

namespace mullion {

RopeTable::Slice RopeTable::at(int64_t begin, int64_t tokens, Device device) const {
  CHECK(begin >= 0 && tokens >= 0, "rope: positions ", begin, " to ", begin + tokens);
  const std::lock_guard lock(growing_);
  if (!cos_.defined() || cos_.dim(0) < begin + tokens || cos_.device() != device)
    grow(begin + tokens, device);
  return {raw::slice(cos_, 0, begin, begin + tokens), raw::slice(sin_, 0, begin, begin + tokens)};
}

RopeTable::Slice RopeTable::at(const std::vector<int64_t>& documents, int64_t tokens,
                               Device device) const {
  std::vector<int64_t> positions(static_cast<size_t>(tokens));
  int64_t longest = 0;
  for (size_t d = 0; d < documents.size(); ++d) {
    const int64_t end = d + 1 < documents.size() ? documents[d + 1] : tokens;
    longest = std::max(longest, end - documents[d]);
    for (int64_t t = documents[d]; t < end; ++t)
      positions[static_cast<size_t>(t)] = t - documents[d];
  }
  const Slice all = at(0, longest, device);
  const Tensor rows = Tensor::from(positions, {tokens});
  return {embedding(all.cos, rows), embedding(all.sin, rows)};
}

// The whole table again, to the next power of two: a generation asks for one position at a time.
void RopeTable::grow(int64_t positions, Device device) const {
  int64_t rows = 64;
  while (rows < positions) rows *= 2;
  const int64_t half = static_cast<int64_t>(inv_freq_.size());
  const Tensor cosines = Tensor::empty({rows, half}), sines = Tensor::empty({rows, half});
  float *c = cosines.data<float>(), *s = sines.data<float>();
  for (int64_t t = 0; t < rows; ++t)
    for (int64_t i = 0; i < half; ++i) {
      // The product in f32, as every model in use was trained with; the functions in double.
      const double angle = static_cast<float>(t) * inv_freq_[static_cast<size_t>(i)];
      c[t * half + i] = static_cast<float>(std::cos(angle));
      s[t * half + i] = static_cast<float>(std::sin(angle));
    }
  cos_ = raw::to_device(cosines, device);
  sin_ = raw::to_device(sines, device);
}

}  // namespace mullion
