// Clocks of the benches, and what the machine itself can do, measured in the same run: the limit
// that a figure is divided by.
#pragma once
#include <algorithm>
#include <cstring>
#include <ctime>
#include <vector>

#include "tensor/cpu/pack.h"
#include "tensor/parallel.h"
#include "tensor/tensor.h"

namespace mullion::bench {

// On one thread its processor time, which other work on the machine does not lengthen.
inline double seconds() {
  timespec now;
  clock_gettime(num_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// The shortest of many runs, for about `budget` seconds: other work shares the machine.
template <typename F>
double shortest(double budget, F f) {
  f();
  double best = 1e9;
  const double stop = seconds() + budget;
  for (int run = 0; run < 3 || seconds() < stop; ++run) {
    const double start = seconds();
    f();
    best = std::min(best, seconds() - start);
  }
  return best;
}

// Fused multiply-adds on twelve independent registers a thread, in GFLOP/s.
inline double peak_gflops() {
  using P = cpu::Pack<float>;
  constexpr int64_t kRounds = 200000;
  const int64_t threads = num_threads();
  std::vector<float> sink(static_cast<size_t>(threads));
  const double time = shortest(0.5, [&] {
    parallel_for(threads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        P sum[12];
        for (int s = 0; s < 12; ++s) sum[s] = static_cast<float>(t + s);
        P factor(0.999f), term(1e-3f);
        asm volatile("" : "+m"(factor), "+m"(term));
        for (int64_t i = 0; i < kRounds; ++i)
          for (P& s : sum) s = s * factor + term;
        P total = P::Zero();
        for (const P& s : sum) total += s;
        sink[static_cast<size_t>(t)] = total.sum();
      }
    });
  });
  return static_cast<double>(threads * kRounds) * 12 * P::kLanes * 2 / time * 1e-9;
}

// Bytes read and written by copying an array that no cache holds, in GB/s.
inline double copy_gb_per_s() {
  constexpr int64_t kFloats = 32 << 20;
  const Tensor from = Tensor::zeros({kFloats}), to = Tensor::zeros({kFloats});
  const float* source = from.data<float>();
  float* target = to.data<float>();
  const double time = shortest(0.5, [&] {
    parallel_for(kFloats, 1, [&](int64_t begin, int64_t end) {
      std::memcpy(target + begin, source + begin, static_cast<size_t>(end - begin) * sizeof(float));
    });
  });
  return 2e-9 * kFloats * sizeof(float) / time;
}

}  // namespace mullion::bench
