// Attention forward and backward over full, S2 and SF patterns: time, and useful work (4 D
// operations a visible pair forward, 10 D backward) as a rate. One JSON line a measurement.
//
// On the CPU of SmolLM2-135M's shape (9 query heads, 3 key heads, D 64) in f32 with groups of 1024.
// The machine's limit is measured in the same run: the same loops on a product that stays in the
// first cache. The least of several runs; times are wall times, rates are a second of one core's
// time (OMP_WAIT_POLICY=passive); the last lines give the time at 16384 tokens over that at 4096.
//
// On a device of Llama-2-7B's shape (32 heads of 128) with groups of a quarter of the context, the
// median of several runs beside the device's product of 8192^3; then full attention's time over
// each pattern's, and the time at 102400 tokens over that at 32768 beside the ratio of the pairs.
//   bench_attention [seconds a measurement] [--device cpu|cuda] [--amp off|bf16]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <string>
#include <vector>

#include "tensor/cpu/micro_product.h"
#include "tensor/kernel_table.h"
#include "tensor/parallel.h"
#include "tensor/tensor.h"
#include "tests/bench/device.h"

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

// GFLOP per second of one core on products of 128 x 48 x 64.
double product_rate(double budget) {
  const int64_t threads = num_threads(), repeats = 2000;
  const int64_t lanes = 3 * cpu::kLanes<float>;
  const Time time = least_time(budget, [&] {
    parallel_for(threads, 1, [&](int64_t, int64_t) {
      const Tensor a = bench::random_tensor({128 * 64}, 1, DType::f32, {});
      const Tensor b = bench::random_tensor({64 * lanes}, 2, DType::f32, {});
      const Tensor c = Tensor::empty({128 * lanes});
      for (int64_t r = 0; r < repeats; ++r)
        cpu::micro_product<cpu::Left::plain, false, 3, float>(
            {a.data<float>(), 64, b.data<float>(), lanes, c.data<float>(), lanes, 128, 64});
    });
  });
  return 2e-9 * static_cast<double>(128 * 64 * lanes * repeats * threads) / time.cpu;
}

struct Heads {
  int64_t heads, key_heads, width;
};
constexpr Heads kSmall{9, 3, 64}, kLarge{32, 32, 128};

struct Times {
  Time forward, backward;
  double both() const { return forward.wall + backward.wall; }
};

class Bench {
 public:
  Bench(const bench::Where& where, const Heads& h, int64_t tokens, const AttentionPattern& pattern)
      : where_(where), pattern_(pattern) {
    const DType type = where.type();
    size_ = {1,
             tokens,
             tokens,
             h.heads,
             h.key_heads,
             h.width,
             1 / std::sqrt(static_cast<double>(h.width)),
             0,
             type,
             &pattern_};
    const Shape wide{tokens * h.heads * h.width}, narrow{tokens * h.key_heads * h.width};
    const auto random = [&](const Shape& shape, uint64_t stream) {
      return bench::random_tensor(shape, stream, type, where.device);
    };
    const auto empty = [&](const Shape& shape, DType of) {
      return Tensor::empty(shape, of, where.device);
    };
    q_ = random(wide, 1), k_ = random(narrow, 2), v_ = random(narrow, 3), d_o_ = random(wide, 4);
    o_ = empty(wide, type), dq_ = empty(wide, type);
    dk_ = empty(narrow, type), dv_ = empty(narrow, type);
    lse_ = empty({tokens * h.heads}, DType::f32);
    const KernelTable& table = kernels(where.device);
    const size_t scratch =
        std::max(table.attention_forward_scratch(size_), table.attention_backward_scratch(size_));
    scratch_ = empty({static_cast<int64_t>(scratch)}, DType::u8);
  }
  Bench(const Bench&) = delete;

  Times run(double budget) const {
    const KernelTable& table = kernels(where_.device);
    const AttentionForwardArgs ahead = forward();
    const AttentionBackwardArgs back = backward();
    return {time(budget, [&] { table.attention_forward(ahead); }),
            time(budget, [&] { table.attention_backward(back); })};
  }

  double pairs() const {
    double sum = 0;
    for (int64_t h = 0; h < size_.H; ++h)
      sum += static_cast<double>(visible_pairs(pattern_, h, size_.T));
    return sum;
  }
  double gflop() const { return 4e-9 * static_cast<double>(size_.D) * pairs(); }

 private:
  template <typename F>
  Time time(double budget, F f) const {
    if (where_.on_cpu()) return least_time(budget, f);
    return {bench::time_on_device(where_, budget, f).median, 0};
  }
  AttentionStrides strides(int64_t heads) const {
    return {size_.T * heads * size_.D, heads * size_.D, size_.D};
  }
  AttentionForwardArgs forward() const {
    const AttentionStrides wide = strides(size_.H), narrow = strides(size_.Hkv);
    AttentionForwardArgs args{};
    args.size = size_;
    args.q = q_.data<void>(), args.k = k_.data<void>(), args.v = v_.data<void>();
    args.o = o_.data<void>(), args.lse = lse_.data<void>();
    args.scratch = scratch_.data<void>();
    args.q_stride = args.o_stride = wide, args.k_stride = args.v_stride = narrow;
    return args;
  }
  AttentionBackwardArgs backward() const {
    const AttentionStrides wide = strides(size_.H), narrow = strides(size_.Hkv);
    AttentionBackwardArgs args{};
    args.size = size_;
    args.q = q_.data<void>(), args.k = k_.data<void>(), args.v = v_.data<void>();
    args.o = o_.data<void>(), args.lse = lse_.data<void>(), args.d_o = d_o_.data<void>();
    args.dq = dq_.data<void>(), args.dk = dk_.data<void>(), args.dv = dv_.data<void>();
    args.scratch = scratch_.data<void>();
    args.q_stride = args.o_stride = args.d_o_stride = args.dq_stride = wide;
    args.k_stride = args.v_stride = args.dk_stride = args.dv_stride = narrow;
    return args;
  }

  bench::Where where_;
  AttentionPattern pattern_;
  AttentionSizes size_;
  Tensor q_, k_, v_, o_, lse_, d_o_, dq_, dk_, dv_, scratch_;
};

Times measure(const char* name, int64_t tokens, double budget, double limit) {
  PatternOptions options;
  options.n_heads = 9, options.context = tokens, options.group_size = 1024;
  const Bench bench({}, kSmall, tokens, make_pattern(name, options));
  const Times t = bench.run(budget);
  const double work = bench.gflop();
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

// A query over a cache of keys.
void measure_decode(const bench::Where& where, const Heads& h, int64_t keys, double budget,
                    double copy_gb_per_s) {
  PatternOptions options;
  options.n_heads = h.heads, options.context = keys;
  const AttentionPattern pattern = make_pattern("full", options);
  const auto random = [&](int64_t n, uint64_t stream) {
    return bench::random_tensor({n}, stream, where.type(), where.device);
  };
  const int64_t wide = h.heads * h.width, narrow = h.key_heads * h.width;
  const Tensor q = random(wide, 1), k = random(keys * narrow, 2), v = random(keys * narrow, 3);
  const Tensor o = raw::clone(q);
  AttentionForwardArgs args{};
  args.size = {1,
               1,
               keys,
               h.heads,
               h.key_heads,
               h.width,
               1 / std::sqrt(static_cast<double>(h.width)),
               keys - 1,
               where.type(),
               &pattern};
  args.q = q.data<void>(), args.k = k.data<void>(), args.v = v.data<void>();
  args.o = o.data<void>();
  args.q_stride = args.o_stride = {wide, wide, h.width};
  args.k_stride = args.v_stride = {0, narrow, h.width};
  const KernelTable& table = kernels(where.device);
  const Tensor scratch = Tensor::empty(
      {static_cast<int64_t>(table.attention_forward_scratch(args.size))}, DType::u8, where.device);
  args.scratch = scratch.data<void>();
  const double gigabytes = 2e-9 * static_cast<double>(k.bytes());
  if (where.on_cpu()) {
    const Time time = least_time(budget, [&] { table.attention_forward(args); });
    std::printf("{\"decode_keys\": %ld, \"us\": %.1f, \"gbytes_a_core_second\": %.1f}\n", keys,
                time.wall * 1e6, gigabytes / time.cpu);
    return;
  }
  const double time =
      bench::time_on_device(where, budget, [&] { table.attention_forward(args); }).median;
  std::printf(
      "{\"bench\": \"attention_decode\", %s, \"keys\": %ld, \"us\": %.1f, \"gb_per_s\": %.0f, "
      "\"of_copy\": %.3f}\n",
      where.json().c_str(), keys, time * 1e6, gigabytes / time, gigabytes / time / copy_gb_per_s);
}

void on_cpu(double budget) {
  const double limit = product_rate(budget);
  std::printf("{\"threads\": %d, \"product_gflops_a_core\": %.1f}\n", num_threads(), limit);
  for (const char* name : {"full", "s2", "sf"}) {
    Time at_4096;
    for (int64_t tokens = 512; tokens <= 16384; tokens *= 2) {
      const Times t = measure(name, tokens, budget, limit);
      const Time both = {t.both(), t.forward.cpu + t.backward.cpu};
      if (tokens == 4096) at_4096 = both;
      if (tokens == 16384)
        std::printf(
            "{\"pattern\": \"%s\", \"wall_16384_over_4096\": %.3f, \"cpu_16384_over_4096\": "
            "%.3f}\n",
            name, both.wall / at_4096.wall, both.cpu / at_4096.cpu);
    }
  }
  for (int64_t keys = 1024; keys <= 65536; keys *= 8) measure_decode({}, kSmall, keys, budget, 0);
}

void on_device(const bench::Where& where, double budget) {
  const bench::DeviceLimits limits = bench::print_limits("attention", where);
  const Heads heads = where.smoke ? Heads{4, 2, 64} : kLarge;
  const std::vector<int64_t> lengths =
      where.smoke ? std::vector<int64_t>{64, 128} : std::vector<int64_t>{8192, 32768, 102400};
  std::map<std::pair<std::string, int64_t>, std::pair<Times, double>> all;  // and the pairs
  for (const int64_t tokens : lengths)
    for (const char* name : {"full", "s2", "sf"}) {
      PatternOptions options;
      options.n_heads = heads.heads, options.context = tokens;
      const Bench bench(where, heads, tokens, make_pattern(name, options));
      const Times t = bench.run(budget);
      const double ahead = bench.gflop() / t.forward.wall;
      const double back = 2.5 * bench.gflop() / t.backward.wall;
      all[{name, tokens}] = {t, bench.pairs()};
      const Times& full = all[{"full", tokens}].first;
      std::printf(
          "{\"bench\": \"attention\", %s, \"pattern\": \"%s\", \"tokens\": %ld, \"forward_ms\": "
          "%.3f, \"backward_ms\": %.3f, \"forward_gflops\": %.0f, \"backward_gflops\": %.0f, "
          "\"forward_of_limit\": %.3f, \"backward_of_limit\": %.3f, \"full_over_forward\": %.2f, "
          "\"full_over_both\": %.2f}\n",
          where.json().c_str(), name, tokens, t.forward.wall * 1e3, t.backward.wall * 1e3, ahead,
          back, ahead / limits.gflops, back / limits.gflops, full.forward.wall / t.forward.wall,
          full.both() / t.both());
      std::fflush(stdout);
    }
  const int64_t from = lengths[lengths.size() - 2], to = lengths.back();
  for (const char* name : {"full", "s2", "sf"}) {
    const auto& [t, pairs] = all[{name, to}];
    const auto& [t0, pairs0] = all[{name, from}];
    std::printf(
        "{\"bench\": \"attention_linearity\", %s, \"pattern\": \"%s\", \"tokens\": %ld, \"over\": "
        "%ld, \"time_ratio\": %.3f, \"pair_ratio\": %.3f}\n",
        where.json().c_str(), name, to, from, t.both() / t0.both(), pairs / pairs0);
  }
  for (const int64_t keys : lengths) measure_decode(where, heads, keys, budget, limits.gb_per_s);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, [](int count, char** values, const bench::Where& where) {
    const double budget = count > 1 ? std::atof(values[1]) : 0.5;
    where.on_cpu() ? on_cpu(budget) : on_device(where, budget);
  });
}
