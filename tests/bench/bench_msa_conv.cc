// MSA-Conv alone at the shapes of the TiC presets' stages: GFLOP/s (4 and 14 k^2 C floating-point
// operations a pixel, forward and both) and images/s, the best of several runs. One JSON line each.
// On a device of TiC-T's stages at batch 128, the median, beside the time in which the tensors
// could be copied: q, k, v and o forward, twelve in both directions.
//   bench_msa_conv [--threads N] [--cpu-time] [name filter] [--device cpu|cuda] [--amp off|bf16]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "tensor/kernel_args/msa_conv.h"
#include "tensor/parallel.h"
#include "tests/bench/device.h"

namespace mullion {
namespace {

struct Shape {
  const char* name;
  int64_t batch, size, heads, head_dim, kernel;
};
constexpr Shape kShapes[] = {
    {"tic-n stage 0", 64, 16, 2, 16, 5},   {"tic-n stage 1", 64, 8, 4, 16, 5},
    {"tic-n stage 2", 64, 4, 8, 16, 5},    {"tic-t stage 0", 2, 56, 3, 32, 7},
    {"tic-t stage 1", 4, 28, 6, 32, 7},    {"tic-t stage 2", 8, 14, 12, 32, 7},
    {"tic-t stage 3", 16, 7, 24, 32, 7},   {"tic-rel-t stage 0", 2, 56, 1, 96, 3},
    {"depthwise stage 0", 2, 56, 96, 1, 7}};
constexpr Shape kDeviceShapes[] = {{"tic-t stage 0", 128, 56, 3, 32, 7},
                                   {"tic-t stage 1", 128, 28, 6, 32, 7},
                                   {"tic-t stage 2", 128, 14, 12, 32, 7},
                                   {"tic-t stage 3", 128, 7, 24, 32, 7},
                                   {"tic-n stage 0", 512, 16, 2, 16, 5}};
constexpr Shape kSmokeShapes[] = {{"smoke", 1, 8, 2, 32, 7}};

bool cpu_time = false;

// Seconds on the clock, or of processor time where other programs share the cores.
double now() {
  if (cpu_time) return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <typename F>
double best_seconds(const F& f) {
  double best = 1e9, total = 0;
  for (int i = 0; i < 50 && (i < 5 || total < 1.0); ++i) {
    const double start = now();
    f();
    const double seconds = now() - start;
    best = std::min(best, seconds);
    total += seconds;
  }
  return best;
}

// One shape: its tensors and both launches.
class Bench {
 public:
  Bench(const Shape& shape, bool shifted, const bench::Where& where) : where_(where) {
    MsaConvGeometry& g = forward_.geometry;
    g.batch = shape.batch;
    g.height = g.width = shape.size;
    g.heads = shape.heads;
    g.head_dim = shape.head_dim;
    g.kernel_h = g.kernel_w = shape.kernel;
    g.scale = 0.25;
    g.shift = shifted ? MsaShift::directions : MsaShift::none;
    g.shift_size = shape.kernel;
    c_ = g.heads * g.head_dim, pixels_ = g.batch * g.height * g.width;
    const DType type = where.type();
    qkv_ = bench::random_tensor({3 * pixels_ * c_}, 1, type, where.device);
    grad_ = bench::random_tensor({pixels_ * c_}, 2, type, where.device);
    dqkv_ = raw::clone(qkv_), o_ = raw::clone(grad_);
    lse_ = Tensor::empty({pixels_ * g.heads}, DType::f32, where.device);
    forward_.dtype = type;
    forward_.q = part(qkv_, 0), forward_.k = part(qkv_, 1), forward_.v = part(qkv_, 2);
    forward_.q_stride = forward_.k_stride = forward_.v_stride = 3 * c_;
    forward_.o = o_.data<void>(), forward_.o_stride = c_, forward_.lse = lse_.data<void>();
    backward_.geometry = g, backward_.dtype = type;
    backward_.q = forward_.q, backward_.k = forward_.k, backward_.v = forward_.v;
    backward_.q_stride = backward_.k_stride = backward_.v_stride = 3 * c_;
    backward_.o = forward_.o, backward_.lse = forward_.lse, backward_.o_stride = c_;
    backward_.grad_o = grad_.data<void>(), backward_.grad_o_stride = c_;
    backward_.dq = part(dqkv_, 0), backward_.dk = part(dqkv_, 1), backward_.dv = part(dqkv_, 2);
    backward_.dq_stride = backward_.dk_stride = backward_.dv_stride = 3 * c_;
  }

  void forward() const { kernels(where_.device).msa_conv(forward_); }
  void backward() const { kernels(where_.device).msa_conv_backward(backward_); }
  double flop() const { return static_cast<double>(pixels_ * c_ * forward_.geometry.taps()); }
  double map_bytes() const { return static_cast<double>(o_.bytes()); }

 private:
  void* part(const Tensor& packed, int64_t i) const {
    void* first = packed.data<void>();
    return static_cast<std::byte*>(first) + i * c_ * size_of(packed.dtype());
  }

  bench::Where where_;
  int64_t c_ = 0, pixels_ = 0;
  Tensor qkv_, dqkv_, o_, grad_, lse_;
  MsaConvArgs forward_{};
  MsaConvBackwardArgs backward_{};
};

void measure(const Shape& shape, bool shifted) {
  const Bench bench(shape, shifted, {});
  const double forward_s = best_seconds([&] { bench.forward(); });
  const double backward_s = best_seconds([&] { bench.backward(); });
  const double flop = bench.flop(), both = forward_s + backward_s;
  const auto images = static_cast<double>(shape.batch);
  std::printf(
      "{\"bench\": \"msa_conv\", \"shape\": \"%s\", \"shift\": %s, \"threads\": %d, "
      "\"fwd_gflops\": %.1f, \"fwd_bwd_gflops\": %.1f, \"bwd_gflops\": %.1f, "
      "\"fwd_images_s\": %.0f, \"fwd_bwd_images_s\": %.0f}\n",
      shape.name, shifted ? "true" : "false", num_threads(), 4e-9 * flop / forward_s,
      14e-9 * flop / both, 10e-9 * flop / backward_s, images / forward_s, images / both);
  std::fflush(stdout);
}

void measure_on_device(const Shape& shape, bool shifted, const bench::Where& where,
                       double copy_gb_per_s) {
  const Bench bench(shape, shifted, where);
  const double forward = bench::time_on_device(where, 1, [&] { bench.forward(); }).median;
  const bench::Spread both = bench::time_on_device(where, 1, [&] {
    bench.forward();
    bench.backward();
  });
  const double map = 1e-9 * bench.map_bytes() / copy_gb_per_s;  // seconds
  std::printf(
      "{\"bench\": \"msa_conv\", %s, \"shape\": \"%s\", \"shift\": %s, \"batch\": %ld, "
      "\"fwd_us\": %.1f, \"fwd_bwd_us\": %.1f, \"fwd_bwd_us_min\": %.1f, \"fwd_bwd_us_max\": %.1f, "
      "\"fwd_of_floor\": %.3f, \"fwd_bwd_of_floor\": %.3f, \"fwd_bwd_gflops\": %.0f, "
      "\"fwd_bwd_images_s\": %.0f}\n",
      where.json().c_str(), shape.name, shifted ? "true" : "false", shape.batch, forward * 1e6,
      both.median * 1e6, both.least * 1e6, both.most * 1e6, 4 * map / forward,
      12 * map / both.median, 14e-9 * bench.flop() / both.median,
      static_cast<double>(shape.batch) / both.median);
  std::fflush(stdout);
}

void run(int argc, char** argv, const bench::Where& where) {
  const char* filter = "";
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
      set_num_threads(std::atoi(argv[++i]));
    else if (std::strcmp(argv[i], "--cpu-time") == 0)
      cpu_time = true;
    else
      filter = argv[i];
  }
  const auto each = [&](const auto& shapes, auto f) {
    for (const Shape& shape : shapes)
      if (std::strstr(shape.name, filter))
        for (bool shifted : {false, true}) f(shape, shifted);
  };
  if (where.on_cpu()) return each(kShapes, measure);
  const double copy = bench::print_limits("msa_conv", where).gb_per_s;
  const auto on_device = [&](const Shape& shape, bool shifted) {
    measure_on_device(shape, shifted, where, copy);
  };
  where.smoke ? each(kSmokeShapes, on_device) : each(kDeviceShapes, on_device);
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) { return mullion::bench::run(argc, argv, mullion::run); }
