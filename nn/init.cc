// Draws by Philox; a normal beyond two deviations is folded back by their period.
#include "nn/init.h"

#include <cmath>

#include "tensor/kernel_table.h"

namespace mullion::init {
namespace {
void random(Tensor& t, RandomArgs::Kind kind, double a, double b, uint64_t seed, uint64_t stream) {
  kernels(t.device())
      .random({.kind = kind,
               .y = t.data<void>(),
               .dtype = t.dtype(),
               .n = t.numel(),
               .a = a,
               .b = b,
               .seed = seed,
               .stream = stream});
}
}  // namespace

uint64_t stream_of(const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

void constant(Tensor& t, double value) { raw::fill(t, value); }

void normal(Tensor& t, double deviation, uint64_t seed, uint64_t stream) {
  random(t, RandomArgs::Kind::normal, 0, deviation, seed, stream);
}

void truncated_normal(Tensor& t, double deviation, uint64_t seed, uint64_t stream) {
  random(t, RandomArgs::Kind::normal, 0, deviation, seed, stream);
  const auto values = t.to_vector<float>();
  std::vector<float> folded(values.size());
  for (size_t i = 0; i < values.size(); ++i)
    folded[i] = static_cast<float>(std::remainder(values[i], 4 * deviation));
  raw::copy_into(Tensor::from(folded, t.shape(), t.device()), t);
}

void uniform(Tensor& t, double bound, uint64_t seed, uint64_t stream) {
  random(t, RandomArgs::Kind::uniform, -bound, bound, seed, stream);
}

void kaiming_uniform(Tensor& t, uint64_t seed, uint64_t stream) {
  const int64_t fan_in = t.numel() / t.dim(0);
  uniform(t, 1 / std::sqrt(static_cast<double>(fan_in)), seed, stream);
}

}  // namespace mullion::init
