// RMSNorm (Zhang and Sennrich 2019): y = x r w with r = 1 / sqrt(mean(x^2) + eps). Backward, with
// u = g w: dx = r (u - x r^2 mean(u x)), dw = sum over rows of g x r.
#include <cmath>

#include "tensor/cpu/kernels.h"
#include "tensor/cpu/rows.h"
namespace mullion::cpu {
namespace {

template <typename T>
void forward(const RmsNormArgs& args) {
  using P = Pack<T>;
  const auto* weight = static_cast<const T*>(args.weight);
  const int64_t width = args.width;
  parallel_for(args.rows, rows_of_grain(width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* x = static_cast<const T*>(args.x) + r * width;
      const double mean = double{sum_over<T>(
                              width, [](P v) { return v * v; }, x)} /
                          static_cast<double>(width);
      const T rstd = static_cast<T>(1 / std::sqrt(mean + args.eps));
      static_cast<T*>(args.rstd)[r] = rstd;
      const P scale = rstd;
      map_packs(
          0, width, static_cast<T*>(args.y) + r * width, [=](P v, P w) { return v * scale * w; }, x,
          weight);
    }
  });
}

template <typename T>
void backward(const RmsNormBackwardArgs& args) {
  using P = Pack<T>;
  const auto* weight = static_cast<const T*>(args.weight);
  const int64_t width = args.width;
  const auto rows = [&](int64_t begin, int64_t end, T* dweight) {
    for (int64_t r = begin; r < end; ++r) {
      const T* x = static_cast<const T*>(args.x) + r * width;
      const T* g = static_cast<const T*>(args.g) + r * width;
      const T rstd = static_cast<const T*>(args.rstd)[r];
      const P scale = rstd;
      if (args.dx) {
        const T dot = sum_over<T>(
            width, [](P a, P b, P w) { return a * b * w; }, g, x, weight);
        const P pull = rstd * rstd * dot / static_cast<T>(width);
        map_packs(
            0, width, static_cast<T*>(args.dx) + r * width,
            [=](P a, P b, P w) { return scale * (a * w - b * pull); }, g, x, weight);
      }
      if (dweight)
        map_packs(
            0, width, dweight, [=](P a, P b, P s) { return s + a * b * scale; }, g, x,
            static_cast<const T*>(dweight));
    }
  };
  if (args.dweight)
    return sum_over_rows<T>(args.rows, width, {static_cast<T*>(args.dweight)}, rows);
  parallel_for(args.rows, rows_of_grain(width),
               [&](int64_t begin, int64_t end) { rows(begin, end, nullptr); });
}

}  // namespace

void rms_norm(const RmsNormArgs& args) {
  dispatch_float("rms_norm", args.dtype, [&](auto zero) { forward<decltype(zero)>(args); });
}

void rms_norm_backward(const RmsNormBackwardArgs& args) {
  dispatch_float("rms_norm_backward", args.dtype,
                 [&](auto zero) { backward<decltype(zero)>(args); });
}

}  // namespace mullion::cpu
