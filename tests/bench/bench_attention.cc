// Attention of SmolLM2-135M's shape (9 query heads, 3 key heads, D 64) in f32 over full, S2 and
// SF patterns with groups of 1024: time, and useful work (4 D operations a visible pair forward,
// 10 D backward) as a rate. The machine's limit is measured in the same run: the same loops on a
// product that stays in the first cache. One JSON line a measurement, the least of several runs;
// times are wall times, rates are a second of one core's time (OMP_WAIT_POLICY=passive);
// the last lines give the time at 16384 tokens over that at 4096.
// Usage: bench_attention [seconds a measurement]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <random>
#include <vector>

#include "tensor/cpu/attention.h"
#include "tensor/cpu/micro_product.h"
#include "tensor/parallel.h"
#include "tensor/tensor.h"

namespace {

using namespace mullion;

struct Time {
  double wall = 1e30, cpu = 1e30;  // seconds; cpu: of all threads together
};

double clock_seconds(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// The least times of f(), called for at least `budget` seconds and three times. Where other
// programs share the cores, the processor's time is the one to believe.
template <typename F>
Time least_time(double budget, F&& f) {
  Time least;
  const double start = clock_seconds(CLOCK_MONOTONIC);
  for (int i = 0; i < 3 || clock_seconds(CLOCK_MONOTONIC) - start < budget; ++i) {
    const double wall = clock_seconds(CLOCK_MONOTONIC);
    const double cpu = clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
    f();
    least.wall = std::min(least.wall, clock_seconds(CLOCK_MONOTONIC) - wall);
    least.cpu = std::min(least.cpu, clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
  }
  return least;
}

// Tensors, as in a model: large ones lie in huge pages.
Tensor floats(int64_t n) { return Tensor::empty({n}); }
Tensor random_floats(int64_t n, unsigned seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> values(-1, 1);
  const Tensor out = floats(n);
  for (int64_t i = 0; i < n; ++i) out.data<float>()[i] = values(engine);
  return out;
}

// GFLOP per second of one core on products of 128 x 48 x 64.
double product_rate(double budget) {
  const int64_t threads = num_threads(), repeats = 2000;
  const int64_t lanes = 3 * cpu::kLanes<float>;
  const Time time = least_time(budget, [&] {
    parallel_for(threads, 1, [&](int64_t, int64_t) {
      const Tensor a = random_floats(128 * 64, 1), b = random_floats(64 * lanes, 2);
      const Tensor c = floats(128 * lanes);
      for (int64_t r = 0; r < repeats; ++r)
        cpu::micro_product<float, 3>({a.data<float>(), 64, 1, b.data<float>(), lanes,
                                      c.data<float>(), lanes, 128, 64, false});
    });
  });
  return 2e-9 * static_cast<double>(128 * 64 * lanes * repeats * threads) / time.cpu;
}

struct Times {
  Time forward, backward;
};

class Bench {
 public:
  explicit Bench(int64_t tokens, const AttentionPattern& pattern) : pattern_(pattern) {
    size_ = {1, tokens, tokens, 9, 3, 64, 0.125, 0, DType::f32, &pattern_};
    const int64_t n = tokens * 9 * 64, m = tokens * 3 * 64;
    q_ = random_floats(n, 1), k_ = random_floats(m, 2), v_ = random_floats(m, 3);
    d_o_ = random_floats(n, 4);
    o_ = floats(n), dq_ = floats(n), dk_ = floats(m), dv_ = floats(m), lse_ = floats(tokens * 9);
    scratch_ = floats(static_cast<int64_t>(cpu::attention_backward_scratch(size_) / sizeof(float)));
  }

  Times run(double budget) {
    const AttentionStrides wide = {size_.T * 9 * 64, 9 * 64, 64};
    const AttentionStrides narrow = {size_.T * 3 * 64, 3 * 64, 64};
    const AttentionForwardArgs forward = {size_,
                                          q_.data<void>(),
                                          k_.data<void>(),
                                          v_.data<void>(),
                                          o_.data<void>(),
                                          lse_.data<void>(),
                                          nullptr,
                                          wide,
                                          narrow,
                                          narrow,
                                          wide};
    const AttentionBackwardArgs backward = {size_,
                                            q_.data<void>(),
                                            k_.data<void>(),
                                            v_.data<void>(),
                                            o_.data<void>(),
                                            lse_.data<void>(),
                                            d_o_.data<void>(),
                                            dq_.data<void>(),
                                            dk_.data<void>(),
                                            dv_.data<void>(),
                                            scratch_.data<void>(),
                                            wide,
                                            narrow,
                                            narrow,
                                            wide,
                                            wide,
                                            wide,
                                            narrow,
                                            narrow};
    return {least_time(budget, [&] { cpu::attention_forward(forward); }),
            least_time(budget, [&] { cpu::attention_backward(backward); })};
  }

  double pairs() const {
    double sum = 0;
    for (int64_t h = 0; h < 9; ++h) sum += static_cast<double>(visible_pairs(pattern_, h, size_.T));
    return sum;
  }

 private:
  AttentionPattern pattern_;
  AttentionSizes size_;
  Tensor q_, k_, v_, o_, lse_, d_o_, dq_, dk_, dv_, scratch_;
};

Times measure(const char* name, int64_t tokens, double budget, double limit) {
  PatternOptions options;
  options.n_heads = 9, options.context = tokens, options.group_size = 1024;
  Bench bench(tokens, make_pattern(name, options));
  const Times t = bench.run(budget);
  const double work = 4 * 64 * bench.pairs() * 1e-9;
  std::printf(
      "{\"pattern\": \"%s\", \"tokens\": %ld, \"forward_ms\": %.3f, \"backward_ms\": %.3f, "
      "\"forward_gflops_a_core\": %.1f, \"backward_gflops_a_core\": %.1f, "
      "\"forward_of_limit\": %.3f, \"backward_of_limit\": %.3f}\n",
      name, tokens, t.forward.wall * 1e3, t.backward.wall * 1e3, work / t.forward.cpu,
      2.5 * work / t.backward.cpu, work / t.forward.cpu / limit,
      2.5 * work / t.backward.cpu / limit);
  std::fflush(stdout);
  return t;
}

void measure_decode(int64_t keys, double budget) {
  PatternOptions options;
  options.n_heads = 9, options.context = keys;
  const AttentionPattern pattern = make_pattern("full", options);
  const Tensor q = random_floats(9 * 64, 1), k = random_floats(keys * 192, 2),
               v = random_floats(keys * 192, 3), o = floats(9 * 64);
  const AttentionForwardArgs args = {{1, 1, keys, 9, 3, 64, 0.125, keys - 1, DType::f32, &pattern},
                                     q.data<void>(),
                                     k.data<void>(),
                                     v.data<void>(),
                                     o.data<void>(),
                                     nullptr,
                                     nullptr,
                                     {576, 576, 64},
                                     {0, 192, 64},
                                     {0, 192, 64},
                                     {576, 576, 64}};
  const Time time = least_time(budget, [&] { cpu::attention_forward(args); });
  std::printf("{\"decode_keys\": %ld, \"us\": %.1f, \"gbytes_a_core_second\": %.1f}\n", keys,
              time.wall * 1e6, 2e-9 * static_cast<double>(keys * 192 * 4) / time.cpu);
}

}  // namespace

int main(int argc, char** argv) {
  const double budget = argc > 1 ? std::atof(argv[1]) : 0.5;
  const double limit = product_rate(budget);
  std::printf("{\"threads\": %d, \"product_gflops_a_core\": %.1f}\n", num_threads(), limit);
  for (const char* name : {"full", "s2", "sf"}) {
    Time at_4096;
    for (int64_t tokens = 512; tokens <= 16384; tokens *= 2) {
      const Times t = measure(name, tokens, budget, limit);
      const Time both = {t.forward.wall + t.backward.wall, t.forward.cpu + t.backward.cpu};
      if (tokens == 4096) at_4096 = both;
      if (tokens == 16384)
        std::printf(
            "{\"pattern\": \"%s\", \"wall_16384_over_4096\": %.3f, \"cpu_16384_over_4096\": "
            "%.3f}\n",
            name, both.wall / at_4096.wall, both.cpu / at_4096.cpu);
    }
  }
  for (int64_t keys = 1024; keys <= 65536; keys *= 8) measure_decode(keys, budget);
  return 0;
}
