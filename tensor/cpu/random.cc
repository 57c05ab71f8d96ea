// Random numbers by counter: element i is a function of (seed, stream, i) alone.
#include <algorithm>
#include <cmath>

#include "tensor/cpu/dispatch.h"
#include "tensor/cpu/kernels.h"
#include "tensor/parallel.h"
#include "tensor/random.h"

namespace mullion::cpu {
namespace {

// f(i, word) for every i in [begin, end), with word i % 4 of block i / 4.
template <typename F>
void for_words(const RandomArgs& args, int64_t begin, int64_t end, F f) {
  for (int64_t i = begin; i < end;) {
    const PhiloxBlock block = philox(args.seed, args.stream_now(), static_cast<uint64_t>(i) / 4);
    const int64_t stop = std::min(end, (i / 4 + 1) * 4);
    for (; i < stop; ++i) f(i, block.v[i % 4]);
  }
}

template <typename T>
void draw(const RandomArgs& args, int64_t begin, int64_t end) {
  auto* y = static_cast<T*>(args.y);
  switch (args.kind) {
    case RandomArgs::Kind::uniform: {
      const double width = args.b - args.a;
      // Rounding to T may reach b, which is outside.
      const T most = std::nextafter(static_cast<T>(args.b), static_cast<T>(args.a));
      return for_words(args, begin, end, [&](int64_t i, uint32_t word) {
        const T value = static_cast<T>(args.a + width * double{uniform_from_bits(word)});
        y[i] = width > 0 ? std::min(value, most) : value;
      });
    }
    case RandomArgs::Kind::bernoulli:
      return for_words(args, begin, end, [&](int64_t i, uint32_t word) {
        y[i] = uniform_from_bits(word) < static_cast<float>(args.a) ? static_cast<T>(args.b) : T(0);
      });
    case RandomArgs::Kind::normal:
      for (int64_t i = begin; i < end; ++i)
        y[i] =
            static_cast<T>(args.a + args.b * normal_from_block(philox(args.seed, args.stream_now(),
                                                                      static_cast<uint64_t>(i))));
  }
}

}  // namespace

void random(const RandomArgs& args) {
  dispatch_float("random", args.dtype, [&](auto zero) {
    parallel_for(args.n, kMathGrain,
                 [&](int64_t begin, int64_t end) { draw<decltype(zero)>(args, begin, end); });
  });
}

}  // namespace mullion::cpu
