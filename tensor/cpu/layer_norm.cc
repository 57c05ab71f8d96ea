// LayerNorm (Ba et al. 2016): y = z w + b with z = (x - mean) r, r = 1 / sqrt(var + eps). The
// variance is taken about the mean in a second sweep, for accuracy. Backward, with u = g w:
// dx = r (u - mean(u) - z mean(u z)), dw = sum over rows of g z, db = sum over rows of g.
#include <cmath>

#include "tensor/cpu/kernels.h"
#include "tensor/cpu/rows.h"
namespace mullion::cpu {
namespace {

// The sum of (x - mean)^2; the tail is done apart because its padding is not at the mean.
template <typename T>
T squares_about(const T* x, int64_t n, T mean) {
  using P = Pack<T>;
  const P m = mean;
  const int64_t whole = n - n % P::kLanes;
  T sum = sum_over<T>(
      whole,
      [=](P v) {
        const P d = v - m;
        return d * d;
      },
      x);
  for (int64_t i = whole; i < n; ++i) sum += (x[i] - mean) * (x[i] - mean);
  return sum;
}

template <typename T>
void forward(const LayerNormArgs& args) {
  using P = Pack<T>;
  const auto* weight = static_cast<const T*>(args.weight);
  const auto* bias = static_cast<const T*>(args.bias);
  const int64_t width = args.width;
  const double count = static_cast<double>(width);
  parallel_for(args.rows, rows_of_grain(width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* x = static_cast<const T*>(args.x) + r * width;
      const T mean = static_cast<T>(double{sum_over<T>(
                                        width, [](P v) { return v; }, x)} /
                                    count);
      const double variance = double{squares_about(x, width, mean)} / count;
      const T rstd = static_cast<T>(1 / std::sqrt(variance + args.eps));
      static_cast<T*>(args.mean)[r] = mean;
      static_cast<T*>(args.rstd)[r] = rstd;
      const P m = mean, scale = rstd;
      map_packs(
          0, width, static_cast<T*>(args.y) + r * width,
          [=](P v, P w, P b) { return (v - m) * scale * w + b; }, x, weight, bias);
    }
  });
}

template <typename T>
void backward(const LayerNormBackwardArgs& args) {
  using P = Pack<T>;
  const auto* weight = static_cast<const T*>(args.weight);
  const int64_t width = args.width;
  const auto rows = [&](int64_t begin, int64_t end, T* sums) {
    T* dweight = sums;
    T* dbias = sums ? sums + width : nullptr;
    for (int64_t r = begin; r < end; ++r) {
      const T* x = static_cast<const T*>(args.x) + r * width;
      const T* g = static_cast<const T*>(args.g) + r * width;
      const P m = static_cast<const T*>(args.mean)[r], scale = static_cast<const T*>(args.rstd)[r];
      if (args.dx) {
        // In a padded tail g is 0, so that both terms vanish there.
        const T n = static_cast<T>(width);
        const P mean_u = sum_over<T>(
                             width, [](P a, P w) { return a * w; }, g, weight) /
                         n;
        const P mean_uz =
            sum_over<T>(
                width, [=](P a, P v, P w) { return a * w * ((v - m) * scale); }, g, x, weight) /
            n;
        map_packs(
            0, width, static_cast<T*>(args.dx) + r * width,
            [=](P a, P v, P w) { return scale * (a * w - mean_u - (v - m) * scale * mean_uz); }, g,
            x, weight);
      }
      if (sums) {
        map_packs(
            0, width, dweight, [=](P a, P v, P s) { return s + a * ((v - m) * scale); }, g, x,
            static_cast<const T*>(dweight));
        map_packs(
            0, width, dbias, [](P a, P s) { return s + a; }, g, static_cast<const T*>(dbias));
      }
    }
  };
  if (args.dweight || args.dbias)
    return sum_over_rows<T>(args.rows, width,
                            {static_cast<T*>(args.dweight), static_cast<T*>(args.dbias)}, rows);
  parallel_for(args.rows, rows_of_grain(width),
               [&](int64_t begin, int64_t end) { rows(begin, end, nullptr); });
}

}  // namespace

void layer_norm(const LayerNormArgs& args) {
  dispatch_float("layer_norm", args.dtype, [&](auto zero) { forward<decltype(zero)>(args); });
}

void layer_norm_backward(const LayerNormBackwardArgs& args) {
  dispatch_float("layer_norm_backward", args.dtype,
                 [&](auto zero) { backward<decltype(zero)>(args); });
}

}  // namespace mullion::cpu
