// Rotary position embedding in the half-split form (Su et al. 2021): element i of a head is turned
// together with element i + D/2 by the angle of its token.
#include "tensor/cpu/dispatch.h"
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/pack.h"
#include "tensor/parallel.h"

namespace mullion::cpu {
namespace {

template <typename T>
void turn_head(const T* x, const T* cosine, const T* sine, T sign, T* y, int64_t half) {
  using P = Pack<T>;
  const P s = sign;
  const auto turn = [&](const P& a, const P& b, const P& c, const P& d, auto write) {
    const P t = d * s;
    write(a * c - b * t, y);
    write(b * c + a * t, y + half);
  };
  for_packs<T>(
      0, half,
      [&](int64_t i) {
        turn(P::load(x + i), P::load(x + half + i), P::load(cosine + i), P::load(sine + i),
             [&](const P& value, T* target) { value.store(target + i); });
      },
      [&](int64_t i, int64_t count) {
        turn(P::load(x + i, count), P::load(x + half + i, count), P::load(cosine + i, count),
             P::load(sine + i, count),
             [&](const P& value, T* target) { value.store(target + i, count); });
      });
}

template <typename T>
void rope_all(const RopeArgs& args) {
  const auto* x = static_cast<const T*>(args.x);
  const auto* cosine = static_cast<const T*>(args.cos);
  const auto* sine = static_cast<const T*>(args.sin);
  auto* y = static_cast<T*>(args.y);
  const int64_t width = args.heads * args.head_dim, half = args.head_dim / 2;
  const T sign = args.inverse ? T(-1) : T(1);
  parallel_for(args.batch * args.tokens, rows_of_grain(width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t angle = row % args.tokens * half;
      for (int64_t d = row * width; d < (row + 1) * width; d += args.head_dim)
        turn_head(x + d, cosine + angle, sine + angle, sign, y + d, half);
    }
  });
}

}  // namespace

void rope(const RopeArgs& args) {
  CHECK_AS(Fault::usage, args.head_dim > 0 && args.head_dim % 2 == 0, "rope: head width ",
           args.head_dim, " is not even");
  dispatch_float("rope", args.dtype, [&](auto zero) { rope_all<decltype(zero)>(args); });
}

}  // namespace mullion::cpu
